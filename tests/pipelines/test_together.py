"""Concurrent use of one pipeline: threads, coroutines, data loaders, and embeddings beside captions."""

from __future__ import annotations

import asyncio
import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import captioner
from captioner.errors import ImageError, UsageError
from captioner.training.tasks import Data

OPTIONS: list[dict[str, Any]] = [
    {"beams": 1},
    {"beams": 4, "count": 2},
    {"temperature": 1.5, "seed": 1},
    {"beams": 2, "prefix": "a", "no_repeat_ngram": 2},
    {"beams": 3, "forbid": ["red"]},
]


@pytest.fixture(scope="module")
def pipe(learnt: Path) -> captioner.CaptionPipeline:
    return captioner.load(learnt, device="cpu")


@pytest.fixture(scope="module")
def photos(data: Data) -> list[Path]:
    return [sample.path for sample in (*data.train, *data.validation)]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_eight_threads_say_what_one_says(learnt: Path, photos: list[Path], precision: Any) -> None:
    pipe = captioner.load(learnt, device="cpu", precision=precision)
    photos = photos[::3]
    jobs: list[tuple[Any, int]] = [(given, number) for given in (*photos, photos) for number in range(len(OPTIONS))]
    jobs = random.Random(0).sample(jobs * 2, len(jobs) * 2)
    alone = [pipe.caption(given, **OPTIONS[number]) for given, number in jobs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda job: pipe.caption(job[0], **OPTIONS[job[1]]), jobs))
    assert len({str(found) for found in alone}) > 8
    assert together == alone, "to the last bit of the scores"


def test_coroutines(pipe: captioner.CaptionPipeline, photos: list[Path]) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    async def run() -> list[Any]:
        clock = asyncio.create_task(tick())
        found = await asyncio.gather(pipe.acaption(photos, beams=2), *(pipe.acaption(photo) for photo in photos[:4]))
        clock.cancel()
        return list(found)

    many, *single = asyncio.run(run())
    assert many == pipe.caption(photos, beams=2)
    assert single == [pipe.caption(photo) for photo in photos[:4]]
    assert ticks > 5, "the loop went on meanwhile"
    with pytest.raises(ImageError, match="no such file"):
        asyncio.run(pipe.acaption("none.png"))


class Photos(Dataset[Any]):
    def __init__(self, paths: list[Path], transform: Any) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.paths[index])


def test_a_data_loader_reads_what_the_pipeline_reads(pipe: captioner.CaptionPipeline, photos: list[Path]) -> None:
    assert pickle.loads(pickle.dumps(pipe.transform)) == pipe.transform
    loader = DataLoader(Photos(photos, pipe.transform), batch_size=5, num_workers=1, multiprocessing_context="fork")
    found = [caption for batch in loader for caption in pipe.caption_pixels(batch, beams=2, count=2)]
    assert [c.text for c in found] == [c.text for c in pipe.caption(photos, beams=2)]
    assert all(len(caption.alternatives) == 1 for caption in found)
    drawn = pipe.caption_pixels([pipe.transform(photo) for photo in photos], temperature=1.5, seed=1)
    assert [c.text for c in drawn] == [pipe.caption(photo, temperature=1.5, seed=1).text for photo in photos]
    assert pipe.caption_pixels([]) == []
    with pytest.raises(UsageError, match=r"pixels of 3 x 64 x 64, not 3 x 32 x 32; use pipe"):
        pipe.caption_pixels(torch.zeros(2, 3, 32, 32))
    with pytest.raises(ImageError, match="no such file"):
        pipe.transform("none.png")


def test_embeddings_beside_captions(taught: Path, photos: list[Path]) -> None:
    pipe = captioner.load(taught, device="cpu")
    directions = pipe.embed_images(photos[:5])
    found = list(
        pipe.stream([*photos[:3], "none.png", *photos[3:5]], batch_size=2, beams=3, count=2, vectors="embeddings")
    )
    assert isinstance(found.pop(3), ImageError)
    plain = pipe.caption(photos[:5], beams=3, count=2)
    assert [caption.text for caption in found] == [caption.text for caption in plain]  # type: ignore[union-attr]
    for caption, direction in zip(found, directions, strict=True):
        assert isinstance(caption, captioner.Caption)
        assert caption.embedding is not None
        np.testing.assert_allclose(caption.embedding, direction, atol=1e-5)
        for said in (caption, *caption.alternatives):
            if said.text:
                np.testing.assert_array_equal(said.text_embedding, pipe.embed_texts(said.text))
            else:
                assert said.text_embedding is None, "no words, no direction"
        assert caption.features is None
    assert plain[0].embedding is None
    assert pipe.caption(photos[0], vectors="embeddings").embedding is not None


def test_features_of_any_captioner(pipe: captioner.CaptionPipeline, photos: list[Path]) -> None:
    rows = pipe.image_features(photos)
    assert rows.shape == (len(photos), 32)
    for photo, row in zip(photos, rows, strict=True):
        np.testing.assert_allclose(pipe.image_features(photo), row, atol=1e-5)
        beside = pipe.caption(photo, vectors="features")
        assert beside.features is not None
        np.testing.assert_allclose(beside.features, row, atol=1e-5)
        assert beside.embedding is beside.text_embedding is None
    with pytest.raises(UsageError, match="has no contrastive head to compare images with texts"):
        pipe.caption(photos[0], vectors="embeddings")
