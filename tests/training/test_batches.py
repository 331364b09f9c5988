"""The batches of a step: labels, draws, and the assignment of items to processes."""

from __future__ import annotations

import math
import os
from collections import Counter
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
from captioner.errors import DataError, ImageError, TrainingError
from captioner.text import CaptionTokenizer, train_tokenizer
from captioner.training.batches import CaptionItems, Collate, Item, Plan, TextItems, batches
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


def plan(**changes: object) -> Plan:
    settings: dict[str, object] = {"items": 22, "batch_size": 8, "accumulate": 2, "seed": "0/0", **changes}
    return Plan(**settings)  # type: ignore[arg-type]


def test_two_processes_together_take_what_one_alone_would() -> None:
    alone = list(plan(accumulate=1).keys(3))
    both = [list(plan(accumulate=1, process=rank, processes=2).keys(3)) for rank in (0, 1)]
    for whole, left, right in zip(alone, *both, strict=True):
        assert not set(left) & set(right)
        assert set(left) | set(right) == set(whole)
        assert len(left) == len(right) == 4


def test_accumulated_parts_are_the_step_in_pieces() -> None:
    whole = list(plan(accumulate=1).keys(0))
    parts = list(plan().keys(0))
    assert len(parts) == 2 * len(whole)
    assert [set(a + b) for a, b in zip(parts[::2], parts[1::2], strict=True)] == [set(step) for step in whole]


def test_an_epoch_resumed_in_the_middle_goes_on_as_it_would_have() -> None:
    assert plan().steps == 2
    assert list(plan().keys(5, 1)) == list(plan().keys(5))[2:]
    assert list(plan().keys(5, 2)) == []


def test_epochs_and_stages_are_drawn_anew() -> None:
    def order(epoch: int, seed: str) -> list[int]:
        return [place for part in plan(seed=seed).keys(epoch) for place, _ in part]

    assert order(0, "0/0") != order(1, "0/0")
    assert order(0, "0/0") != order(0, "0/1")
    keys = [key for epoch in range(2) for part in plan().keys(epoch) for key in part]
    assert len({seed for _, seed in keys}) == len(keys), "an item saw the same view twice"


def test_the_odd_rest_waits_for_another_permutation() -> None:
    missing = [set(range(22)) - {place for part in plan().keys(epoch) for place, _ in part} for epoch in range(9)]
    assert all(len(rest) == 6 for rest in missing)
    assert len({frozenset(rest) for rest in missing}) > 1
    few = Plan(items=5, batch_size=8, accumulate=1, seed="")
    assert few.steps == 1
    assert sorted(place for place, _ in next(few.keys(0))) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("items", [7, 40, 300, 3000])
@pytest.mark.parametrize("batch_size", [8, 32, 64])
@pytest.mark.parametrize(("processes", "accumulate"), [(1, 1), (2, 2)])
@pytest.mark.parametrize("shape", ["none", "distinct", "equal", "two"])
def test_epochs_show_every_item_and_none_much_more_often(
    items: int, batch_size: int, processes: int, accumulate: int, shape: str
) -> None:
    """An epoch does not always skip the items with the longest captions."""
    lengths = {"none": None, "distinct": range(items), "equal": [3] * items, "two": [n % 2 for n in range(items)]}[
        shape
    ]
    epochs = 30
    plans = [
        plan(items=items, batch_size=batch_size, accumulate=accumulate, process=n, processes=processes, lengths=lengths)
        for n in range(processes)
    ]
    seen = Counter(place for one in plans for epoch in range(epochs) for part in one.keys(epoch) for place, _ in part)
    assert seen.total() == epochs * min(items, plans[0].steps * batch_size)
    assert len(seen) == items, "an item is never shown"
    left_out = 1 - seen.total() / (epochs * items)  # the share of an epoch that waits
    most_missed = epochs - min(seen.values())
    assert most_missed <= epochs * left_out + 6 * (epochs * left_out * (1 - left_out)) ** 0.5
    assert max(seen.values()) <= epochs


def test_lengths_bring_like_to_like_and_every_item_once() -> None:
    lengths = [(7 * n) % 64 for n in range(64)]
    steps = [[place for place, _ in step] for step in plan(items=64, accumulate=1, lengths=lengths).keys(0)]
    assert Counter(place for step in steps for place in step) == Counter(range(64))
    assert all(max(lengths[p] for p in step) - min(lengths[p] for p in step) == 7 for step in steps)
    firsts = [lengths[step[0]] for step in steps]
    assert firsts != sorted(firsts), "short captions would always come first"


@pytest.mark.parametrize("whole", [10**6, 0], ids=["one permutation", "runs"])
def test_repeats_show_items_so_often_on_average(monkeypatch: pytest.MonkeyPatch, whole: int) -> None:
    monkeypatch.setattr("captioner.training.batches.WHOLE", whole)
    repeats = [2.5] * 100 + [1.0] * 300 + [0.3] * 200
    one = plan(items=600, accumulate=1, batch_size=10, repeats=repeats)
    assert (one.taken, one.steps) == (610, 61)
    epochs = [Counter(place for step in one.keys(epoch) for place, _ in step) for epoch in range(200)]
    assert all(epoch.total() == 610 for epoch in epochs)
    assert len({frozenset(epoch.items()) for epoch in epochs}) > 5
    for times, places in ((2.5, range(100)), (1.0, range(100, 400)), (0.3, range(400, 600))):
        low, high = math.floor(times), math.ceil(times)
        assert all(low - 1 <= epoch[n] <= high for epoch in epochs for n in places)  # one may wait for another epoch
        mean = [sum(epoch[n] for epoch in epochs) / 200 for n in places]
        assert all(abs(average - times) < 0.15 for average in mean)


def test_repeats_of_one_change_nothing_but_the_permutation() -> None:
    once = plan(repeats=[1.0] * 22)
    assert once.steps == plan().steps
    assert sorted(place for step in plan(repeats=[1.0] * 22, batch_size=22).keys(0) for place, _ in step) == [
        *range(22)
    ]


def test_copies_of_an_item_in_an_epoch_differ_in_view() -> None:
    keys = [key for step in plan(items=40, accumulate=1, repeats=[3.0] * 40).keys(0) for key in step]
    assert len(set(keys)) == len(keys) == 120
    assert Counter(place for place, _ in keys) == dict.fromkeys(range(40), 3)


def test_repeats_and_lengths_go_together() -> None:
    lengths = [n // 8 for n in range(64)]
    steps = [
        [place for place, _ in step] for step in plan(items=64, accumulate=1, lengths=lengths, repeats=[2] * 64).keys(0)
    ]
    assert all(len({lengths[place] for place in step}) == 1 for step in steps)


def test_too_few_items_for_the_processes_are_refused() -> None:
    with pytest.raises(DataError, match="cannot feed 3 processes with 2 parts each"):
        plan(items=5, processes=3)


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
