"""The ways in which a photo enters: base64, a data URL, bytes, an address, a path below the allowed folder."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from captioner.data.items import Refused, open_file, refusal, system_reason
from captioner.data.messages import shown
from captioner.data.urls import TIMEOUT, fetch, is_url
from captioner.errors import ImageError
from captioner.serving.body import Body
from captioner.serving.refusals import Refusal
from captioner.serving.settings import Settings
from captioner.serving.tasks import Photo, Unread

_DATA = re.compile(r"data:([^,]{0,200}),", re.IGNORECASE)


class PhotoDoor:
    """The door for photos of one server."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._limits = settings, settings.limits
        self._root = None if settings.root is None else os.path.realpath(settings.root)
        self._downloads = asyncio.Semaphore(self._limits.downloads)

    async def of_texts(self, texts: Sequence[str], body: Body) -> list[Photo | Unread]:
        """Return the photos that base64, data URLs or addresses give. Raises ``Refusal``.

        ``body`` is that of the request; it counts the downloaded bytes.
        """
        self.check_count(len(texts))
        tasks = [
            asyncio.ensure_future(self._of_text(text, f"image {number}", body)) for number, text in enumerate(texts, 1)
        ]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def of_paths(self, paths: Sequence[str], body: Body) -> list[Photo | Unread]:
        """Return the photos at paths below the allowed folder, counted in ``body``. Raises ``Refusal``."""
        self.check_count(len(paths))
        return [await asyncio.to_thread(self._of_path, path, body) for path in paths]

    def check_count(self, count: int) -> None:
        """Raise ``Refusal`` for a request with no photo or too many."""
        if count < 1:
            raise Refusal("request", "the request holds no image; send at least one")
        if count > self._limits.photos:
            most = self._limits.photos
            raise Refusal("size", f"the request holds {count} images, more than {most}; send fewer at once")

    async def _of_text(self, text: str, name: str, body: Body) -> Photo | Unread:
        if is_url(text):
            return await self._of_url(text, body)
        try:
            if len(text) < 1 << 16:
                return Photo(name=name, data=decoded(text, name))
            return Photo(name=name, data=await asyncio.to_thread(decoded, text, name))
        except ImageError as error:
            return Unread(name=name, error=str(error))

    async def _of_url(self, url: str, body: Body) -> Photo | Unread:
        name = shown(url)
        if not self._settings.allow_urls:
            remedy = "send the image itself, or start it with --allow-urls"
            return Unread(name=name, error=f"this server fetches no addresses; {remedy}")
        try:
            async with self._downloads:
                seconds = min(TIMEOUT, self._limits.timeout / 2)
                data = await asyncio.to_thread(fetch, url, reach="public", max_bytes=self._limits.body, timeout=seconds)
        except ImageError as error:
            return Unread(name=name, error=str(error))
        body.hold(len(data))
        return Photo(name=name, data=data)

    def _of_path(self, path: str, body: Body) -> Photo | Unread:
        """Read a file below the root; links that lead out of it are refused."""
        name = shown(path)
        if self._root is None:
            remedy = "send the image itself, or start it with --root FOLDER"
            return Unread(name=name, error=f"this server reads no paths; {remedy}")
        try:
            real = os.path.realpath(os.path.join(self._root, path))
            inside = os.path.commonpath([real, self._root]) == self._root
        except (OSError, ValueError):
            inside, real = False, ""
        if not inside:  # the same words whether the file exists or not
            return Unread(name=name, error=refusal(path, "it is not below the folder of --root"))
        try:
            with open_file(real, most=self._limits.body) as file:
                body.hold(min(os.fstat(file.fileno()).st_size, self._limits.body))
                return Photo(name=name, data=file.read(self._limits.body))
        except Refused as refused:
            return Unread(name=name, error=refusal(path, refused))
        except OSError as error:
            return Unread(name=name, error=refusal(path, system_reason(error)))


def decoded(text: str, name: str) -> bytes:
    """Return the bytes of a data URL or of base64. Raises ``ImageError``."""
    head = _DATA.match(text)
    if head and not head[1].lower().endswith(";base64"):
        return unquote_to_bytes(text[head.end() :])
    if head is None and text[:5].lower() == "data:":
        raise ImageError(refusal(name, "its data URL has no comma before the data"))
    body = "".join((text[head.end() :] if head else text).split())
    try:
        return base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
    except (binascii.Error, ValueError):
        kinds = "base64, a data URL or an http(s) URL"
        raise ImageError(refusal(name, f"it is not {kinds}")) from None
