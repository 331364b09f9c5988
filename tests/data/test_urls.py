"""Images behind URLs, against a local server of the test."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from captioner.data.find import find_items
from captioner.data.images import open_image
from captioner.data.urls import fetch
from captioner.errors import ImageError


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (5, 2), "red").save(stream, "PNG")
    return stream.getvalue()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def answer(self, data: bytes, kind: str = "image/png", length: int | None = None, code: int = 200) -> None:
        self.send_response(code)
        if kind:
            self.send_header("Content-Type", kind)
        if length != -1:
            self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def lead(self, place: str) -> None:
        self.send_response(302)
        self.send_header("Location", place)
        self.end_headers()

    def drip(self, head: bytes) -> None:
        self.wfile.write(head)
        for _ in range(100):
            time.sleep(0.02)
            self.wfile.write(b"x")
            self.wfile.flush()

    def do_GET(self) -> None:
        path = self.path
        try:
            if path.startswith("/hop/"):
                left = int(path[5:])
                self.lead(f"/hop/{left - 1}" if left else "/a.png")
            elif path in PAGES:
                PAGES[path](self)
            else:
                self.answer(b"no", code=404)
        except OSError:
            pass


PAGES = {
    "/a.png": lambda page: page.answer(png()),
    "/with%20space/%C3%BC.png?x=1": lambda page: page.answer(png(), kind=""),
    "/page": lambda page: page.answer(b"<html>", "text/html; charset=utf-8"),
    "/film": lambda page: page.answer(b"", "video/mp4"),
    "/wrong": lambda page: page.answer(b"not an image", "image/png"),
    "/empty": lambda page: page.answer(b""),
    "/large": lambda page: page.answer(b"", length=10**12),
    "/endless": lambda page: page.answer(bytes(3000), length=-1),
    "/short": lambda page: page.answer(png()[:40], length=len(png())),
    "/file": lambda page: page.lead("file:///etc/passwd"),
    "/ftp": lambda page: page.lead("ftp://127.0.0.1/a.png"),
    "/round": lambda page: page.lead("/round"),
    "/slow-head": lambda page: page.drip(b"HTTP/1.0 200 OK\r\nX: "),
    "/slow-body": lambda page: page.drip(b"HTTP/1.0 200 OK\r\nContent-Type: image/png\r\n\r\n"),
    "/nothing": lambda page: time.sleep(1.5),
    "/garbage": lambda page: page.wfile.write(b"\x00\x01 garbage\r\n\r\n"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=partial(http.serve_forever, poll_interval=0.02))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_an_image_behind_a_url(server: str) -> None:
    names = [f"{server}/a.png", f"{server}/hop/4", f"{server}/with space/ü.png?x=1", f"{server}/a.png"]
    items = list(find_items(names))
    assert [item.id for item in items] == names[:3], "each once"
    assert [open_image(item).width for item in items] == [5, 5, 5]
    assert open_image(names[0]).size == (5, 2)
    assert all(item.path is None for item in items)


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("/gone", "the server answered 404 Not Found"),
        ("/page", "the server sent text/html instead of an image"),
        ("/film", "the server sent video/mp4 instead of an image"),
        ("/wrong", "it is not an image, or its format is not supported"),
        ("/empty", "it is empty"),
        ("/short", "the connection was lost during the download"),
        ("/hop/6", "it is redirected more than 5 times"),
        ("/round", "it is redirected more than 5 times"),
        ("/file", "it leads to an address that is not http or https"),
        ("/ftp", "it leads to an address that is not http or https"),
        ("/garbage", "the connection failed (\x00\x01 garbage)"),
    ],
)
def test_a_url_without_an_image_is_one_line(page: str, reason: str, server: str) -> None:
    with pytest.raises(ImageError) as error:
        open_image(server + page)
    assert str(error.value) == f"cannot read {server}{page}: {reason}"


@pytest.mark.parametrize("page", ["/large", "/endless"])
def test_bytes_are_limited(page: str, server: str) -> None:
    with pytest.raises(ImageError, match="it is larger than the limit of 0 MB"):
        fetch(server + page, max_bytes=2000)


@pytest.mark.parametrize("page", ["/slow-head", "/slow-body", "/nothing"])
def test_time_is_limited_whatever_the_server_does(page: str, server: str) -> None:
    start = time.monotonic()
    with pytest.raises(ImageError, match=r"the server took longer than 0\.3 seconds"):
        fetch(server + page, timeout=0.3)
    assert time.monotonic() - start < 1.2


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://", "this is not a valid URL"),
        ("http://[", "this is not a valid URL"),
        ("http://127.0.0.1:port/", "this is not a valid URL"),
        ("http://a.invalid/1.jpg", "its host name cannot be resolved; check the URL and the network"),
        ("http://127.0.0.1:1/1.jpg", "the connection failed (connection refused)"),
    ],
)
def test_broken_addresses(url: str, reason: str) -> None:
    with pytest.raises(ImageError) as error:
        open_image(url)
    assert str(error.value) == f"cannot read {url}: {reason}"


def test_a_password_is_in_no_message() -> None:
    for url in ("http://me:sec ret@127.0.0.1:1/a.jpg", "https://me:secret@[/a.jpg", "http://me:s#c?ret@127.0.0.1:1/"):
        with pytest.raises(ImageError) as refusal:
            fetch(url, timeout=2)
        assert "http" in str(refusal.value)
        assert "ret" not in str(refusal.value)


def test_a_list_of_others_leads_to_the_public_internet_alone(server: str) -> None:
    (item,) = find_items([f"{server}/a.png"], reach="public")
    with pytest.raises(ImageError, match="it leads to this machine or a private network"):
        open_image(item)
    (item,) = find_items([f"{server}/a.png"], reach="private")
    assert open_image(item).width == 5
