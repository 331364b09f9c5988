"""The server without a browser: photos, changes, conflicts, pictures, and requests that must not pass."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from captioner.errors import UsageError
from captioner.folder.entry import Photo
from captioner.reviewing.asking import NONE, Asked, Wish
from captioner.reviewing.shelf import Shelf

pytest.importorskip("starlette")
pytest.importorskip("httpx")
from starlette.testclient import TestClient

from captioner.reviewing.app import SCRIPTS, app_of

TOKEN = "a-random-word"
HOSTILE = '<img src=x onerror="alert(1)">'


class Model:
    """A pipeline that says what it was asked."""

    def caption(self, image: Any, *, count: int, **options: Any) -> Any:
        others = tuple(SimpleNamespace(text=f"other {n}", confidence=0.25) for n in range(1, count))
        return SimpleNamespace(text=f"asked with {options}", confidence=0.5, alternatives=others)


@pytest.fixture
def asked() -> Asked:
    asked = Asked(None)
    asked._pipe = Model()  # type: ignore[assignment]
    return asked


@pytest.fixture
def client(photos: Path, asked: Asked) -> Iterator[TestClient]:
    (photos / "1.txt").write_text(HOSTILE)
    app = app_of(Shelf(str(photos)), asked, token=TOKEN)
    with TestClient(app, base_url=f"http://127.0.0.1:8000/{TOKEN}") as client:
        yield client


def listed(client: TestClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/api/photos").json()["photos"]
    return found


def change(client: TestClient, photo: dict[str, Any], **values: Any) -> Any:
    fields = {"id": photo["id"], "version": photo["version"], "captions": photo["captions"], "state": photo["state"]}
    return client.post("/api/changes", json={"changes": [{**fields, **values}]})


def test_the_page_and_its_files(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert "unsafe" not in page.headers["content-security-policy"]
    for name in ("page.css", "review.css", *SCRIPTS):
        assert name == "page.css" or name in page.text or name in "".join(client.get(f"/{s}").text for s in SCRIPTS)
        assert client.get(f"/{name}").status_code == 200
    assert "innerHTML" not in "".join(client.get(f"/{name}").text for name in SCRIPTS)


def test_photos_and_a_change(client: TestClient, photos: Path) -> None:
    first, *_ = listed(client)
    assert (first["name"], first["captions"], first["state"]) == ("1.png", [HOSTILE], "")
    saved = change(client, first, captions=["a dog", " ", "a\tbrown  dog"], state="edited").json()["photos"][0]
    assert (saved["captions"], saved["state"]) == (["a dog", "a brown dog"], "edited")
    assert (photos / "1.txt").read_text() == "a dog\na brown dog\n"
    assert saved["version"] != first["version"]
    assert listed(client)[0] == saved


def test_a_conflict_shows_the_caption_of_the_other(client: TestClient, photos: Path) -> None:
    first, *_ = listed(client)
    assert change(client, first, captions=["theirs"], state="edited").status_code == 200
    answer = change(client, first, captions=["mine"], state="edited")
    assert answer.status_code == 412
    assert [photo["captions"] for photo in answer.json()["photos"]] == [["theirs"]]
    assert (photos / "1.txt").read_text() == "theirs\n"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[",
        "[]",
        "{}",
        '{"changes": []}',
        '{"changes": [1]}',
        '{"changes": [{"state": "accepted"}]}',
        "[" * 100000,
        '{"changes": [{"id": "x", "version": "y", "captions": ["a"], "state": "loved"}]}',
        '{"changes": [{"id": "../1.txt", "version": "y", "captions": ["a"], "state": "accepted"}]}',
        '{"changes": [{"id": 1, "version": 2, "captions": "a", "state": "accepted"}]}',
    ],
)
def test_wrong_changes_are_refused(client: TestClient, body: str) -> None:
    answer = client.post("/api/changes", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_limits_of_a_caption(client: TestClient) -> None:
    first, *_ = listed(client)
    assert "shorten it" in change(client, first, captions=["a" * 30_000], state="edited").json()["error"]
    assert "empty caption" in change(client, first, captions=["  "], state="edited").json()["error"]
    assert client.post("/api/changes", content=b"x", headers={"content-type": "text/plain"}).status_code == 415
    headers = {"content-type": "application/json", "content-length": str(1 << 40)}
    assert client.post("/api/changes", content=b"x", headers=headers).status_code == 413


def test_pictures_are_small_copies(client: TestClient, photos: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a secret"
    Image.new("RGB", (3000, 1000), "navy").save(photos / "1.png", exif=exif)
    first, *_ = listed(client)
    for size, side in (("thumb", 320), ("photo", 1280)):
        answer = client.get(f"/{size}/{first['id']}")
        image = Image.open(io.BytesIO(answer.content))
        assert (answer.headers["content-type"], image.format, max(image.size)) == ("image/jpeg", "JPEG", side)
        assert not image.getexif()
    (photos / "1.png").write_bytes(b"no image")
    assert client.get(f"/photo/{first['id']}").status_code == 422
    assert client.get("/thumb/unknown").status_code == 404


def test_photos_behind_links_out_of_the_folder_are_not_shown(tmp_path: Path, photos: Path, asked: Asked) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "private.png")
    (photos / "link.png").symlink_to(tmp_path / "private.png")
    client = TestClient(app_of(Shelf(str(photos)), asked, token=TOKEN), base_url=f"http://127.0.0.1/{TOKEN}")
    found = {photo["name"]: photo["id"] for photo in listed(client)}
    assert client.get(f"/thumb/{found['link.png']}").status_code == 404
    assert client.get(f"/thumb/{found['2.png']}").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../1.txt",
        "/..%2f1.txt",
        "/thumb/..%2f1.png",
        "/thumb/1.png",
        "/photo/%2e%2e/1.png",
        "/review.html",
        "/app.py",
        "/asking.py",
        "/page.css/..",
        "//etc/passwd",
        "/thumb/%00",
        "/__init__.py",
    ],
)
def test_no_path_leads_to_a_file(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (403, 404)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:8000", "origin": "http://localhost:8000"}, 200),
        ({"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": ""}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9000"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_host_and_origin(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.get("/api/photos", headers=headers).status_code == status
    first = listed(client)[0]
    sent = {"id": first["id"], "version": first["version"], "captions": ["a dog"], "state": "edited"}
    assert client.post("/api/changes", json={"changes": [sent]}, headers=headers).status_code == status


@pytest.mark.parametrize("path", ["/", "/wrong/", f"/{TOKEN}x/", f"/{TOKEN[:-1]}/", "//", "/page.css", "/\u00e9/"])
def test_an_address_without_the_word_is_refused(client: TestClient, path: str) -> None:
    client.base_url = "http://127.0.0.1:8000"  # type: ignore[assignment]
    assert client.get(path + "api/photos").status_code == 403


def test_suggestions(client: TestClient) -> None:
    first, *_ = listed(client)
    asked = {"id": first["id"], "prefix": " a photo of ", "forbid": "man, ,phone", "count": 3}
    answer = client.post("/api/suggestions", json=asked).json()["suggestions"]
    assert [one["text"] for one in answer] == [
        "asked with {'prefix': 'a photo of', 'forbid': ('man', 'phone')}",
        "other 1",
        "other 2",
    ]
    for wrong in ({"count": 1000}, {"count": True}, {"prefix": 3}, {"forbid": "x" * 1000}, {"id": "nope"}):
        assert client.post("/api/suggestions", json={**asked, **wrong}).status_code == 400


def test_suggestions_keep_the_options_of_the_command() -> None:
    asked = Asked(None, options={"neutral": True, "beams": 3, "forbid": ["gun"]})
    asked._pipe = Model()  # type: ignore[assignment]
    photo = Photo(id="1.png", key="1.png", source=b"")
    (found,) = asked.suggest(photo, Wish(forbid=("dog",), count=1))
    assert found["text"] == "asked with {'neutral': True, 'beams': 3, 'forbid': ('gun', 'dog')}"


def test_without_a_model(photos: Path) -> None:
    client = TestClient(app_of(Shelf(str(photos)), Asked(NONE), token=TOKEN), base_url=f"http://127.0.0.1/{TOKEN}")
    values = client.get("/api/photos").json()
    assert values["model"] is False
    answer = client.post("/api/suggestions", json={"id": values["photos"][0]["id"]})
    assert (answer.status_code, "without --model none" in answer.json()["error"]) == (400, True)


def test_a_wish() -> None:
    assert Wish.of({}).options({}) == {}
    with pytest.raises(UsageError):
        Wish.of({"forbid": ["a"]})
