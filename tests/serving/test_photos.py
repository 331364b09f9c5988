"""The ways in which a photo enters, and what is refused before it is read."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from captioner.errors import ImageError
from captioner.serving.body import Bodies, Body
from captioner.serving.metrics import Metrics
from captioner.serving.photos import PhotoDoor
from captioner.serving.refusals import Refusal
from captioner.serving.settings import Limits, Settings
from captioner.serving.tasks import Photo, Unread

DATA = bytes(range(256))
TEXT = base64.b64encode(DATA).decode()


def request_body(**limits: Any) -> Body:
    """Return the body of a request that has arrived."""
    return Body(Bodies(None, Limits(**limits), Metrics()), None, b"")  # type: ignore[arg-type]


def entered(photos: Sequence[Photo | Unread]) -> list[bytes]:
    """Return the bytes of photos. Raises ``ImageError`` for one that did not enter."""
    for photo in photos:
        if isinstance(photo, Unread):
            raise ImageError(photo.error)
    return [photo.data for photo in photos if isinstance(photo, Photo)]


def enter(*texts: str, **settings: Any) -> list[bytes]:
    return entered(asyncio.run(PhotoDoor(Settings(**settings)).of_texts(texts, request_body())))


def path(root: Path | None, *paths: str) -> list[bytes]:
    door = PhotoDoor(Settings(root=None if root is None else str(root), limits=Limits(body=1000)))
    return entered(asyncio.run(door.of_paths(paths, request_body())))


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.rstrip("="),
        f"\n{TEXT[:20]}\n{TEXT[20:]}\n",
        f"data:image/jpeg;base64,{TEXT}",
        f"DATA:;BASE64,{TEXT}",
        "data:application/octet-stream," + "".join(f"%{byte:02x}" for byte in DATA),
    ],
)
def test_base64_and_data_urls(text: str) -> None:
    assert enter(text) == [DATA]


def test_a_large_photo_is_decoded_too() -> None:
    large = DATA * 1000
    assert enter(base64.b64encode(large).decode(), TEXT) == [large, DATA]


@pytest.mark.parametrize("text", ["not base64!", "data:image/png", "é", "file:///etc/passwd", "\ud800"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ImageError, match="cannot read image 1: "):
        enter(text)


def test_the_number_of_photos_is_bounded() -> None:
    with pytest.raises(Refusal, match="send fewer") as refused:
        enter(*[TEXT] * 33)
    assert refused.value.status_code == 413
    with pytest.raises(Refusal, match="holds no image"):
        enter()


def test_addresses_need_an_option_and_stay_public() -> None:
    with pytest.raises(ImageError, match="--allow-urls"):
        enter("http://127.0.0.1:1/a.png")
    for address in ("http://127.0.0.1:1/a.png", "http://[::1]/a.png", "http://169.254.169.254/latest", "HTTP://10.1/"):
        with pytest.raises(ImageError, match="private network"):
            enter(address, allow_urls=True)


def test_paths_need_a_root_and_stay_below_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "a" / "b.png").write_bytes(DATA)
    (tmp_path / "secret").write_bytes(DATA)
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    (root / "good").symlink_to("a/b.png")
    (root / "large").write_bytes(b"0" * 1001)
    os.mkfifo(root / "pipe")
    assert path(root, "a/b.png", "good", str(root / "a" / "b.png")) == [DATA] * 3
    outside: Sequence[str] = (
        "../secret",
        "link",
        "folder/secret",
        str(tmp_path / "secret"),
        "/etc/passwd",
        "../none",
        "\0",
    )
    for name in outside:
        with pytest.raises(ImageError, match="it is not below the folder of --root"):
            path(root, name)
    for name, reason in {"pipe": "pipe", "a": "folder", "none": "no such file", "large": "exceed"}.items():
        with pytest.raises(ImageError, match=reason):
            path(root, name)
    with pytest.raises(ImageError, match="reads no paths"):
        path(None, "a/b.png")


def test_files_of_all_requests_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0" * 900)
    door, body = PhotoDoor(Settings(root=str(tmp_path))), request_body(bodies=2000)
    assert len(asyncio.run(door.of_paths(["a", "a"], body))) == 2
    assert body.held == 1800
    with pytest.raises(Refusal, match="server busy") as refused:
        asyncio.run(door.of_paths(["a"], body))
    assert refused.value.status_code == 503
    body.release()
    assert len(asyncio.run(door.of_paths(["a"] * 3, body))) == 3, "nobody waits for them"


def test_a_refused_request_downloads_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def fetch(url: str, **settings: Any) -> bytes:
        begun.append(url)
        time.sleep(0.05)
        return b"0" * 900

    monkeypatch.setattr("captioner.serving.photos.fetch", fetch)
    door = PhotoDoor(Settings(allow_urls=True, limits=Limits(downloads=2)))
    with pytest.raises(Refusal, match="server busy"):
        asyncio.run(door.of_texts([f"http://a.example/{n}" for n in range(30)], request_body(bodies=1000)))
    assert len(begun) < 10
