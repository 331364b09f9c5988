"""Addresses and timeouts of connections, against local servers of the test."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from captioner.data import connections
from captioner.data.urls import fetch
from captioner.errors import ImageError

REFUSED = "it leads to this machine or a private network"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", f"http://{self.path[4:]}/")
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"photo")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("0.0.0.0", 0), Handler) as http:
        thread = threading.Thread(target=partial(http.serve_forever, poll_interval=0.02))
        thread.start()
        yield http.server_port
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextmanager
def dripping(head: bytes) -> Iterator[int]:
    """Start a server that sends its data at once, and then a byte every 20 ms for three seconds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(3)

        def serve() -> None:
            with suppress(OSError), server.accept()[0] as client:
                client.sendall(head)
                for _ in range(150):
                    time.sleep(0.02)
                    client.sendall(b"x")

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def in_time(url: str) -> None:
    connections._tls()
    start = time.monotonic()
    with pytest.raises(ImageError, match=r"the server took longer than 0\.3 seconds"):
        fetch(url, timeout=0.3, reach="private")
    assert time.monotonic() - start < 1.0


def test_a_handshake_has_the_time_that_is_left() -> None:
    with dripping(b"\x16\x03\x03\x40\x00") as port:
        in_time(f"https://127.0.0.1:{port}/")


def test_a_tunnel_has_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    with dripping(b"HTTP/1.0 200 OK\r\nX: ") as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        in_time("https://photos.example/1.jpg")


@pytest.mark.parametrize("kind", [b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;"])
def test_a_line_has_the_time_that_is_left(kind: bytes) -> None:
    with dripping(kind) as port:
        in_time(f"http://127.0.0.1:{port}/")


def test_a_look_up_has_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = socket.getaddrinfo

    def slow(host: str, *arguments: Any, flags: int = 0, **named: Any) -> Any:
        if not flags:
            time.sleep(1.5)
        return whole(host, *arguments, flags=flags, **named)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    in_time("http://photos.invalid/1.jpg")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[64:ff9b::7f00:1]"],
)
def test_a_list_may_not_lead_to_this_machine(host: str, port: int) -> None:
    with pytest.raises(ImageError, match=f"{REFUSED}.*--allow-private"):
        fetch(f"http://{host}:{port}/", reach="public")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("64:ff9b::5db8:d70e", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("::", False),
        ("2002:a00:1::", False),
        ("64:ff9b::a00:1", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert connections._is_public(address) is public


def test_what_is_typed_or_trusted_may_lead_to_this_machine(port: int) -> None:
    for reach in ("named", "private"):
        assert fetch(f"http://localhost:{port}/to/127.0.0.1:{port}", reach=reach) == b"photo"


def test_redirects_obey_the_same_rule(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_is_public", lambda address: address == "127.0.0.2")
    outside, inside = f"http://127.0.0.2:{port}/", f"127.0.0.1:{port}"
    for reach in ("public", "named"):
        assert fetch(outside, reach=reach) == b"photo"
        with pytest.raises(ImageError, match=REFUSED):
            fetch(f"{outside}to/{inside}", reach=reach)
    assert fetch(f"{outside}to/{inside}", reach="private") == b"photo"


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[list[str]]], list[str]]:
    """Answer name look-ups with these addresses in order; return the names that were looked up."""

    def give(found: list[list[str]]) -> list[str]:
        asked: list[str] = []

        def look(host: str, port: int, *_: Any, flags: int = 0, **named: Any) -> Any:
            if flags:
                raise socket.gaierror
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port)) for address in found[len(asked) - 1]]

        monkeypatch.setattr(socket, "getaddrinfo", look)
        return asked

    return give


def test_the_address_that_was_checked_is_connected_to(
    port: int, answers: Callable[[list[list[str]]], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is looked up only once, since a second look-up could return another address."""
    monkeypatch.setattr(connections, "_is_public", lambda address: address == "127.0.0.2")
    asked = answers([["127.0.0.2"], ["127.0.0.1"]])
    assert fetch(f"http://photos.example:{port}/", reach="public") == b"photo"
    assert asked == ["photos.example"]
    answers([["127.0.0.1", "127.0.0.2"]])
    assert fetch(f"http://photos.example:{port}/", reach="public") == b"photo", "by the address that is public"
    answers([["127.0.0.1"]])
    with pytest.raises(ImageError, match=REFUSED):
        fetch(f"http://photos.example:{port}/", reach="public")


def test_behind_a_proxy_what_is_plainly_private_is_refused(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")  # a proxy of one's own may be on this machine
    assert fetch("http://photos.example/", reach="public") == b"photo"
    for host in ("10.0.0.1", "[::1]", "localhost", "a.localhost."):
        with pytest.raises(ImageError, match=REFUSED):
            fetch(f"http://{host}/", reach="public")
        assert fetch(f"http://{host}/", reach="named") == b"photo"
