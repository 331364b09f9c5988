"""The check of key, Host and Origin."""

from __future__ import annotations

import hmac
from typing import Any

import pytest

from captioner.serving.guard import Guard
from captioner.serving.refusals import Refusal
from captioner.serving.settings import Settings


def status(guard: Guard, path: str = "/caption", **headers: str) -> int:
    try:
        guard.check(path, {name.encode(): value.encode() for name, value in {"host": "localhost:1", **headers}.items()})
    except Refusal as refusal:
        return refusal.status_code
    return 200


OURS = ("localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "192.168.0.7", "captioner:8000", "")
OURS += ("nas.local", "host.docker.internal:8000", "APP.LOCALHOST", "box.home.arpa:8000")


@pytest.mark.parametrize("host", OURS)
def test_names_that_no_stranger_can_register(host: str) -> None:
    assert status(Guard(Settings()), host=host) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.nip.io", "localhost.evil.com", "a.b:x:1"]
)
def test_a_rebound_name_is_refused_without_a_key(host: str) -> None:
    guard = Guard(Settings())
    assert status(guard, host=host) == status(guard, "/livez", host=host) == 403
    assert status(Guard(Settings(hosts=("Evil.Example",))), host="evil.example:8000") == 200
    with_key = Guard(Settings(key="k"))
    assert status(with_key, host=host) == 401
    assert status(with_key, host=host, authorization="Bearer k") == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:9", "http://localhost:11", "http://[x:11"]
)
def test_pages_of_other_origins_are_refused(origin: str) -> None:
    assert status(Guard(Settings()), origin=origin) == 403
    assert status(Guard(Settings(origins=("https://evil.example/", "null", "http://localhost:9"))), origin=origin) == (
        403 if origin.endswith("11") else 200
    )
    assert status(Guard(Settings(origins=("*",))), origin=origin) == 200


def test_the_own_pages_may_ask() -> None:
    assert status(Guard(Settings()), host="localhost:8000", origin="http://localhost:8000") == 200


@pytest.mark.parametrize(
    ("given", "passes"),
    [
        ("Bearer s3cret", True),
        ("bearer  s3cret ", True),
        *((text, False) for text in ("Basic s3cret", "s3cret", "", "Bearer s3cre", "Bearer S3CRET", "Bearer é")),
    ],
)
def test_the_key(given: str, passes: bool) -> None:
    guard = Guard(Settings(key="s3cret"))
    assert (status(guard, authorization=given) == 200) == passes
    assert status(guard, "/livez") == status(guard, "/readyz") == 200
    assert status(guard, "/metrics") == status(guard, "/") == status(guard, "/livez/") == 401


def test_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[Any] = []
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or a == b)
    assert status(Guard(Settings(key="schlüssel")), authorization="Bearer schlüssel") == 200
    assert compared == [("schlüssel".encode(), "schlüssel".encode())]
