"""The server's own protocol: three forms of a body, all options, several photos, errors in JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from captioner.config import generation_options
from captioner.serving.child import Model
from captioner.training.tasks import Data


def b64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def test_json_forms_and_bytes_say_the_same(server: Any, model: Model, photos: Path) -> None:
    paths = [photos / "0.png", photos / "1.jpg"]
    expected = [model.pipe.caption(str(path), beams=3, forbid=["red"]).text for path in paths]
    with server.client() as client:
        body = {"images": [b64(path) for path in paths], "beams": 3, "forbid": ["red"]}
        as_json = client.post("/caption", json=body)
        files = [("image", (path.name, path.read_bytes())) for path in paths]
        as_form = client.post("/caption", files=files, data={"beams": "3", "forbid": "red"})
        singles = [
            client.post("/caption?beams=3&forbid=red", content=path.read_bytes(), headers={"content-type": "image/x"})
            for path in paths
        ]
    assert as_json.status_code == 200, as_json.text
    assert as_json.json() == as_form.json()
    assert as_json.json()["model"] == "tiny"
    assert [found["caption"] for found in as_json.json()["captions"]] == expected
    assert [answer.json()["captions"][0] for answer in singles] == as_json.json()["captions"]


def test_every_generation_option_is_a_field(server: Any) -> None:
    with server.client() as client:
        document = client.get("/openapi.json").json()
    body = document["paths"]["/caption"]["post"]["requestBody"]["content"]
    assert set(generation_options()) <= set(body["application/json"]["schema"]["properties"])
    assert set(body) >= {"multipart/form-data", "image/jpeg"}


def test_details_and_alternatives(server: Any, model: Model, photos: Path) -> None:
    caption = model.pipe.caption(str(photos / "0.png"), count=2)
    with server.client() as client:
        (plain,) = client.post("/caption", json={"image": b64(photos / "0.png"), "count": 2}).json()["captions"]
        wishes = {"image": b64(photos / "0.png"), "details": True, "score": ["a red circle", caption.text]}
        (rich,) = client.post("/caption", json={**wishes, "vectors": "features", "explain": True}).json()["captions"]
    assert plain["caption"] == caption.text
    assert [other["caption"] for other in plain["alternatives"]] == [caption.alternatives[0].text]
    assert "words" not in {**plain, **plain["alternatives"][0]}
    assert rich["words"] == [
        [word.text, round(word.probability, 4)] for word in model.pipe.caption(str(photos / "0.png")).words
    ]
    assert rich["scores"] == [round(s, 4) for s in model.pipe.score(str(photos / "0.png"), wishes["score"])]
    assert rich["features"] == [round(float(v), 6) for v in model.pipe.image_features(str(photos / "0.png"))]
    words = rich["explanation"]["words"]
    assert "".join(word["word"] for word in words).split() == rich["caption"].split() or len(words) == len(
        rich["words"]
    )
    height, width = rich["explanation"]["grid"]
    assert all(len(word["map"]) == height and len(word["map"][0]) == width for word in words)


def test_a_bad_photo_among_good_ones(server: Any, photos: Path) -> None:
    with server.client() as client:
        answer = client.post("/caption", json={"images": [b64(photos / "0.png"), "AAAA"]})
        assert answer.status_code == 200
        good, bad = answer.json()["captions"]
        assert good["caption"]
        assert bad == {"error": "cannot read image 2: it is not an image, or its format is not supported"}
        mixed = {"images": ["not base64!", b64(photos / "0.png"), "http://a.example/a.png"], "paths": ["a.png"]}
        first, found, url, path = client.post("/caption", json=mixed).json()["captions"]
        assert found["caption"] == good["caption"]
        for record, said in ((first, "image 1: it is not base64"), (url, "--allow-urls"), (path, "--root")):
            assert said in record["error"]
        alone = client.post("/caption", files={"image": ("a.png", b"nothing")})
        assert alone.status_code == 400
        assert alone.json()["error"].startswith("cannot read a.png: it is not an image")
        assert alone.json()["kind"] == "photo"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "holds no image"),
        ({"images": []}, "holds no image"),
        ({"image": "AAAA", "beems": 3}, "unknown field 'beems'; did you mean beams?"),
        ({"image": "AAAA", "beams": 0}, "beams must be at least 1"),
        ({"image": "AAAA", "beams": "x"}, "beams: "),
        ({"image": "AAAA", "beams": 10_000}, "at most"),
        ({"image": "AAAA", "count": 10_000}, "at most"),
        ({"image": "AAAA", "refine": 10_000}, "at most"),
        ({"image": "AAAA", "beams": 4, "temperature": 1.0}, "exclude each other"),
        ({"image": "AAAA", "require": list("abcdefgh")}, "required words"),
        ({"image": "AAAA", "forbid": [str(n) for n in range(65)]}, "words to forbid"),
        ({"image": "AAAA", "prefix": "a" * 401}, "400 characters"),
        ({"image": "AAAA", "prefix": "\ud800"}, "not UTF-8"),
        ({"image": "AAAA", "score": ["a"] * 100}, "texts per request"),
        ({"image": "AAAA", "seed": 10**30}, "seed"),
        ({"image": "AAAA", "rerank": "matching", "candidates": 2}, "matching head"),
        ({"image": "AAAA", "vectors": "embeddings"}, "no contrastive head"),
        ({"image": "AAAA", "labels": True}, "names no labels"),
        ({"image": "http://127.0.0.1/a.png"}, "--allow-urls"),
        ({"paths": ["a.png"]}, "reads no paths"),
        ([1], "not a JSON object"),
    ],
)
def test_wrong_requests_get_one_sentence(server: Any, body: Any, said: str) -> None:
    with server.client() as client:
        answer = client.post("/caption", content=json.dumps(body))
    assert answer.status_code in (400, 413), answer.text
    assert said in answer.json()["error"], answer.text
    assert answer.json()["kind"] in ("request", "photo")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"image": NaN}', b"1" * 5000])
def test_what_is_not_json(server: Any, body: bytes) -> None:
    with server.client() as client:
        answer = client.post("/caption", content=body)
    assert answer.status_code == 400
    assert answer.json()["kind"] == "request"


def test_other_paths_and_methods(server: Any) -> None:
    with server.client() as client:
        assert client.get("/none").json() == {"error": "there is no such path; /docs lists the paths", "kind": "path"}
        assert client.get("/caption").status_code == 405
        assert client.get("/caption").json()["kind"] == "path"


def test_labels(start: Callable[..., Any], labelling: Model, photos: Path) -> None:
    server = start(of=labelling)
    with server.client() as client:
        (found,) = client.post("/caption", json={"image": b64(photos / "0.png"), "labels": True}).json()["captions"]
        (without,) = client.post("/caption", json={"image": b64(photos / "0.png")}).json()["captions"]
    labels = labelling.pipe.caption(str(photos / "0.png")).labels
    assert labels
    assert found["labels"] == [[label.text, round(label.probability, 4)] for label in labels]
    assert "labels" not in without


def test_search(start: Callable[..., Any], searching: Model, data: Data) -> None:
    server = start(of=searching)
    images = [b64(sample.path) for sample in data.train]
    with server.client() as client:
        first = [
            client.post("/search", json={"images": images, "query": sample.captions[0]}).json()["found"][0]["photo"]
            for sample in data.train
        ]
        vectors = client.post("/caption", json={"image": images[0], "vectors": "embeddings"}).json()["captions"][0]
    assert sum(place == found for place, found in enumerate(first)) >= 6
    assert len(vectors["embedding"]) == len(vectors["text_embedding"]) > 1


def test_search_needs_a_head(server: Any) -> None:
    with server.client() as client:
        answer = client.post("/search", json={"image": "AAAA", "query": "a dog"})
        assert answer.status_code == 400
        assert "cannot search" in answer.json()["error"]
        assert "query" in client.post("/search", json={"image": "AAAA"}).json()["error"]


@pytest.mark.parametrize(("wishes", "sizes"), [({"explain": "true"}, [4, 1]), ({"score": ["a"] * 64}, [4, 1])])
def test_costly_wishes_have_smaller_batches(
    start: Callable[..., Any], photos: Path, wishes: dict[str, Any], sizes: list[int]
) -> None:
    server = start()
    files = [("image", path.read_bytes()) for path in sorted(photos.iterdir())[:5]]
    with server.client() as client:
        assert client.post("/caption", files=files, data=wishes).status_code == 200
    assert [len(batch) for _, batch in server.runner.batches] == sizes
