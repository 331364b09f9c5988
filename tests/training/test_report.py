"""The report on a fine-tuned model: reproducible figures, and justified warnings."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from captioner.checkpoint import Checkpoint, load
from captioner.data.samples import Sample
from captioner.errors import DataError
from captioner.evaluation.evaluate import evaluate
from captioner.metrics.bootstrap import Difference, Interval
from captioner.training.report import Comparison, compare, data_warnings, result_warnings, text
from captioner.training.tasks import Data


def images(captions: Sequence[str]) -> tuple[Sample, ...]:
    return tuple(Sample(name=f"{n}.jpg", path=Path(f"{n}.jpg"), captions=(c,)) for n, c in enumerate(captions))


WORDS = [f"{a}{b}" for a in ("ant", "bee", "cat", "dog", "eel") for b in ("fish", "hill", "like", "man", "wood")]
VARIED = [" ".join(random.Random(n).sample(WORDS, 7)) for n in range(400)]


@pytest.fixture
def untaught(checkpoint: Checkpoint) -> Checkpoint:
    """Return the captioner with a decoder that gives every image the same caption."""
    for block in checkpoint.model.decoder.blocks:
        block.cross_attn.out_proj.weight.data.zero_()
        block.cross_attn.out_proj.bias.data.zero_()
    return checkpoint


@pytest.fixture
def found(untaught: Checkpoint, learnt: Path, data: Data) -> Comparison:
    return compare(untaught, load(learnt), data.train)


def test_the_figures_are_those_of_evaluate(found: Comparison, learnt: Path, data: Data) -> None:
    alone = evaluate(load(learnt), data.train)
    assert found.after.model == alone.model
    assert found.gain.value == pytest.approx(alone.model.cider_d - found.before.model.cider_d)
    assert f"| after | {alone.model.bleu.bleu1:.1f} | {alone.model.bleu.bleu2:.1f} |" in text(found)


def test_the_interval_is_the_paired_one_by_hand(found: Comparison) -> None:
    gains = [b - a for a, b in zip(found.before.model.per_image, found.after.model.per_image, strict=True)]
    assert found.gain.value == pytest.approx(sum(gains) / 8)
    spread = statistics.stdev(gains) / math.sqrt(8)
    width = found.gain.interval.high - found.gain.interval.low
    assert width == pytest.approx(2 * 1.96 * spread, rel=0.25)  # eight images: nearly normal


def test_the_images_shown_have_their_reference_and_both_captions(found: Comparison, data: Data) -> None:
    told = text(found)
    for place, sample in enumerate(data.train):
        assert (
            f"{sample.name}\n    reference  {sample.captions[0]}\n    before     {found.before.captions[place]}\n"
            f"    after      {found.after.captions[place]}"
        ) in told


def test_of_many_images_ten_are_shown(found: Comparison, data: Data) -> None:
    samples = tuple(replace(data.train[n % 8], name=f"photo {n}") for n in range(40))
    many = replace(
        found,
        samples=samples,
        before=replace(found.before, captions=found.before.captions * 5),
        after=replace(found.after, captions=found.after.captions * 5),
    )
    assert [n for n in range(40) if f"\nphoto {n}\n" in text(many)] == [0, 4, 8, 12, 16, 20, 24, 28, 32, 36]


def test_an_image_that_is_gone_is_one_sentence(checkpoint: Checkpoint, data: Data, tmp_path: Path) -> None:
    lost = replace(data.train[0], path=tmp_path / "gone.jpg")
    with pytest.raises(DataError, match=r"^before and after cannot be compared: cannot read .*gone\.jpg"):
        compare(checkpoint, checkpoint, [lost, *data.train[1:]])


def test_a_result_that_says_the_same_of_everything_is_doubted(
    found: Comparison, untaught: Checkpoint, data: Data
) -> None:
    assert result_warnings(found, improved=True) == []
    worse = Difference(value=-found.gain.value, interval=Interval(low=-900.0, high=-700.0), p=0.002)
    same = replace(found, before=found.after, after=found.before, gain=worse)
    said, gain = result_warnings(same, improved=True)
    assert said.startswith(
        f'the fine-tuned captioner gives all 8 held-out images the same caption, "{same.after.captions[0]}", so it'
    )
    assert gain.startswith("the gain may be chance: CIDEr-D -")
    few = replace(same.after, captions=(*same.after.captions[:7], "something else"))
    assert "2 different captions for 8 held-out images, people have 8" not in str(result_warnings(same, improved=True))
    doubled = replace(
        same,
        samples=images([f"photo {n}" for n in range(16)]),
        after=replace(few, captions=few.captions * 2),
    )
    assert (
        "the fine-tuned captioner has 2 different captions for 16 held-out images, people have 16"
        in (result_warnings(doubled, improved=True)[0])
    )


def test_a_run_that_found_nothing_better_says_so(found: Comparison) -> None:
    (said,) = result_warnings(found, improved=False)
    assert said.startswith("no weights of this run did better")


def test_a_good_set_is_not_doubted() -> None:
    assert data_warnings(Data(train=images(VARIED[:300]), validation=images(VARIED[300:340]))) == []


def test_a_small_set_is_doubted() -> None:
    train, held_out = data_warnings(Data(train=images(VARIED[:45]), validation=images(VARIED[45:50])))
    assert train.startswith("45 training images are few")
    assert held_out.startswith("only 5 images are held out, and scores on fewer than 30 are unreliable")


@pytest.mark.parametrize(
    ("captions", "said"),
    [
        (["A photo."] * 200 + VARIED[:100], '67 % of the images have the caption "a photo"'),
        ([f"a photo of my garden in the summer of 20{n % 60}" for n in range(300)], "the captions are very similar"),
    ],
)
def test_captions_that_are_alike_are_doubted(captions: list[str], said: str) -> None:
    (doubt,) = data_warnings(Data(train=images(captions), validation=images(VARIED[300:340])))
    assert doubt.startswith(said)


def test_captions_without_a_word_are_not_compared() -> None:
    data = Data(train=images(["...", "!", "?"] * 50), validation=images(VARIED[:40]))
    assert data_warnings(data) == []
