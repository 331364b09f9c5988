"""The batches of a step: labels, draws, and the assignment of items to processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from captioner.config import PreprocessConfig
from captioner.data.samples import Sample
from captioner.data.transforms import preprocess
from captioner.errors import ImageError, TrainingError
from captioner.text import CaptionTokenizer, train_tokenizer
from captioner.training.batches import CaptionItems, Collate, Item, TextItems, batches
from captioner.training.loading import load_ahead

PIXELS = PreprocessConfig(size=16)
CAPTIONS = ("a red dog", "a blue cat runs", "two birds", "a tree", "the sea at night")


@pytest.fixture
def tokenizer() -> CaptionTokenizer:
    return train_tokenizer(CAPTIONS, 300)


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """Write a photo whose left half is red and whose right half is blue."""
    photo = Image.new("RGB", (16, 16), "blue")
    photo.paste("red", (0, 0, 8, 16))
    photo.save(tmp_path / "photo.png")
    return Sample(name="photo.png", path=tmp_path / "photo.png", captions=CAPTIONS)


def items(sample: Sample, tokenizer: CaptionTokenizer, **options: object) -> CaptionItems:
    settings: dict[str, object] = {"captions_per_image": 5, "context": 32, **options}
    return CaptionItems([sample], tokenizer, PIXELS, **settings)  # type: ignore[arg-type]


def images(found: CaptionItems, draws: int = 20) -> Iterator[torch.Tensor]:
    for seed in range(draws):
        image = found[0, seed].image
        assert image is not None
        yield image


def test_labels_are_shifted_exactly_once() -> None:
    batch = Collate(bos_id=1, eos_id=2, pad_id=0)(
        [Item(((7, 8, 9), (5,)), None, "one"), Item(((6,),), None, "two")],
    )
    assert batch.tokens.tolist() == [[[1, 7, 8, 9], [1, 5, 0, 0]], [[1, 6, 0, 0], [0, 0, 0, 0]]]
    assert batch.targets.tolist() == [[[7, 8, 9, 2], [5, 2, 0, 0]], [[6, 2, 0, 0], [0, 0, 0, 0]]]
    assert batch.weights.tolist() == [[[1, 1, 1, 1], [1, 1, 0, 0]], [[1, 1, 0, 0], [0, 0, 0, 0]]]
    assert batch.names == ("one", "two")
    assert batch.image is None


def test_every_target_is_the_next_token(sample: Sample, tokenizer: CaptionTokenizer) -> None:
    ids = tokenizer.config
    batch = Collate(ids.bos_id, ids.eos_id, ids.pad_id)([items(sample, tokenizer)[0, 0]])
    for tokens, targets, weights in zip(batch.tokens[0], batch.targets[0], batch.weights[0], strict=True):
        length = int(weights.sum())
        assert tokens[1:length].equal(targets[: length - 1])
        assert (tokens[0], targets[length - 1]) == (ids.bos_id, ids.eos_id)
    assert [tokenizer.decode(row.tolist()) for row in batch.targets[0]] == list(CAPTIONS)


def test_a_caption_longer_than_the_context_still_fits_it(sample: Sample, tokenizer: CaptionTokenizer) -> None:
    found = items(replace(sample, captions=("sea " * 50,)), tokenizer, context=8)
    batch = Collate(1, 2, 0)([found[0, 0]])
    assert batch.tokens.shape == (1, 1, 8)
    assert Collate(1, 2, 0)([TextItems(["sea " * 50], tokenizer, context=8)[0, 0]]).tokens.shape == (1, 1, 8)


def test_captions_per_image_draws_without_repeats(sample: Sample, tokenizer: CaptionTokenizer) -> None:
    found = items(sample, tokenizer, captions_per_image=2)
    draws = [{tokenizer.decode(ids) for ids in found[0, seed].captions} for seed in range(40)]
    assert all(len(draw) == 2 for draw in draws)
    assert set.union(*draws) == set(CAPTIONS)
    assert found[0, 7].captions == found[0, 7].captions
    assert len(items(sample, tokenizer, captions_per_image=9)[0, 0].captions) == 5


def test_a_mirrored_view_comes_half_of_the_time(sample: Sample, tokenizer: CaptionTokenizer) -> None:
    with Image.open(sample.path) as photo:
        plain = preprocess(photo.convert("RGB"), PIXELS)
    mirrored = sum(not image.equal(plain) for image in images(items(sample, tokenizer, views="mirrored"), 60))
    assert 15 < mirrored < 45
    assert all(image.equal(plain) for image in images(items(sample, tokenizer)))


@pytest.mark.parametrize("caption", ["a dog to the left of a cat", "a man's RIGHT hand", "the leftmost boat"])
@pytest.mark.parametrize("views", ["mirrored", "augmented"])
def test_sides_named_in_a_caption_are_never_mirrored(
    sample: Sample, tokenizer: CaptionTokenizer, caption: str, views: str
) -> None:
    found = items(replace(sample, captions=("two animals", caption)), tokenizer, views=views)
    for image in images(found, 30):
        assert image[0, :, 0].mean() > image[0, :, -1].mean()  # red stays on the left


def test_augmented_views_depend_on_the_seed_alone(sample: Sample, tokenizer: CaptionTokenizer) -> None:
    found = items(sample, tokenizer, views="augmented")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = list(images(found, 4))
    assert torch.get_rng_state().equal(before), "the view drew from the run's random numbers"
    torch.manual_seed(2)
    assert all(a.equal(b) for a, b in zip(first, images(found, 4), strict=True))
    assert not first[0].equal(first[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_one_sentence_whoever_loads_it(
    sample: Sample, tokenizer: CaptionTokenizer, tmp_path: Path, workers: int
) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    bad = replace(sample, path=tmp_path / "bad.png")
    found = CaptionItems([sample, bad], tokenizer, PIXELS, captions_per_image=1, context=8)
    arriving = batches(found, [[(0, 0)], [(0, 1), (1, 1)]], Collate(1, 2, 0), workers=workers)
    assert next(arriving).names == ("photo.png",)
    with pytest.raises(ImageError, match=r"^cannot read [^\n]*bad\.png: [^\n]*; repair it or remove it[^\n]*$"):
        next(arriving)


class _Deadly(Dataset[Item]):
    """A dataset that ends its process, like a kernel that is out of memory."""

    def __getitem__(self, key: int) -> Item:
        os._exit(9)


def test_a_worker_that_dies_is_one_sentence() -> None:
    with pytest.raises(TrainingError, match=r"^a process that loads images has died \(.*\), .*--set workers=0"):
        list(load_ahead(_Deadly(), [[0]], Collate(1, 2, 0), workers=1))


def test_loading_leaves_the_random_numbers_of_the_run_alone(sample: Sample, tokenizer: CaptionTokenizer) -> None:
    before = torch.get_rng_state()
    list(batches(items(sample, tokenizer, views="augmented"), [[(0, 0)]], Collate(1, 2, 0), workers=0))
    assert torch.get_rng_state().equal(before)
