"""Embeddings of photos and texts, from Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from captioner.checkpoint import Checkpoint
from captioner.errors import ImageError, UsageError
from captioner.pipelines import CaptionPipeline, load
from captioner.training.tasks import Data


@pytest.fixture(scope="module", params=["fp32", "bf16", "int8"])
def pipe(request: pytest.FixtureRequest, taught: Path) -> CaptionPipeline:
    return load(taught, precision=request.param)


def test_photos_are_found_by_their_captions(pipe: CaptionPipeline, data: Data) -> None:
    images = pipe.embed_images([s.path for s in data.train])
    texts = pipe.embed_texts([s.captions[0] for s in data.train])
    assert images.shape == texts.shape == (8, 256)
    assert images.dtype == texts.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, rtol=1e-5)
    found = (texts @ images.T).argmax(axis=1)
    right = [data.train[place].captions.count(s.captions[0]) > 0 for place, s in zip(found, data.train, strict=True)]
    assert sum(right) >= 6


def test_order_and_company_change_nothing(pipe: CaptionPipeline, data: Data) -> None:
    photos = [s.path for s in data.train]
    together = pipe.embed_images(photos, batch_size=3)
    close = {"fp32": 1e-5, "bf16": 2e-2, "int8": 2e-2}[str(pipe.checkpoint.model.precision)]
    np.testing.assert_allclose(pipe.embed_images(photos[2]), together[2], atol=close)
    texts = [s.captions[0] for s in data.train] + ["a"]
    np.testing.assert_allclose(pipe.embed_texts(texts[4]), pipe.embed_texts(texts)[4], atol=close)
    assert pipe.embed_images(photos[2]).shape == pipe.embed_texts("a dog").shape == (256,)
    assert pipe.embed_images([]).shape == pipe.embed_texts([]).shape == (0, 256)


def test_matching_from_python(pipe: CaptionPipeline, data: Data) -> None:
    photos, captions = [s.path for s in data.train[:3]], [s.captions[0] for s in data.train[:3]]
    table = pipe.match(photos, captions, batch_size=2)
    assert np.array(table).shape == (3, 3)
    assert pipe.match(photos[1], captions[2]) == pytest.approx(table[1][2], abs=0.05)
    assert pipe.match(photos, captions[0]) == pytest.approx([row[0] for row in table], abs=0.05)
    assert pipe.match(photos[0], captions) == pytest.approx(table[0], abs=0.05)
    assert all(0 <= p <= 1 for row in table for p in row)


def test_what_cannot_be(pipe: CaptionPipeline, data: Data, tmp_path: Path) -> None:
    for texts in ("", " . "):
        with pytest.raises(UsageError, match=r"has no words; describe what the image shows$"):
            pipe.embed_texts(texts)
    long = "very " * 200
    for action in (lambda: pipe.embed_texts(long), lambda: pipe.match(data.train[0].path, long)):
        with pytest.raises(UsageError, match=r"tokens, the model reads 31; (shorten|cut) it$"):
            action()
    with pytest.raises(ImageError, match=r"gone\.png"):
        pipe.embed_images([data.train[0].path, tmp_path / "gone.png"])
    with pytest.raises(ImageError, match=r"gone\.png"):
        pipe.match(tmp_path / "gone.png", "a dog")


def test_a_captioner_without_heads_says_so(checkpoint: Checkpoint, data: Data) -> None:
    plain = CaptionPipeline(checkpoint)
    for action in (lambda: plain.embed_images([data.train[0].path]), lambda: plain.embed_texts("a dog")):
        with pytest.raises(
            UsageError, match=r"has no contrastive head to compare images with texts; train one with `captioner "
        ):
            action()
    with pytest.raises(UsageError, match=r"has no matching head"):
        plain.match(data.train[0].path, "a dog")
    with pytest.raises(UsageError, match=r"has no matching head"):
        plain.stream([], rerank="matching", beams=3, candidates=3)
    assert plain.image_features([]).shape == (0, 32)
    assert plain.image_features([data.train[0].path]).shape == (1, 32)
