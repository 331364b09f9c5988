from __future__ import annotations

from dataclasses import replace

import pytest

from captioner.data.samples import Sample
from captioner.errors import DataError
from captioner.evaluation.compare import compare, figures, markdown
from captioner.evaluation.judge import Judge

BAD = ["a cat", "two kids play with a ball", "a man rides a horse", "a bowl"]
GOOD = ["a dog runs on the beach", "two kids play with a ball", "a man", "a bowl of fruit on a table"]


def test_two_sets_of_captions(samples: list[Sample]) -> None:
    judge = Judge(samples)
    first, second = judge.judge(BAD), judge.judge(GOOD)
    found = compare(first, second)
    assert (found.wins, found.losses, found.ties) == (2, 1, 1)
    assert [one.image for one in found.worse] == ["photos/2.jpg"]
    assert {one.image for one in found.better} == {"photos/0.jpg", "photos/3.jpg"}
    assert found.better[0].gain >= found.better[1].gain > 0 > found.worse[0].gain
    for name, gap in found.differences.items():
        assert gap.value == pytest.approx(second.model[name] - first.model[name])
        assert gap.interval.low <= gap.value <= gap.interval.high
    back = compare(second, first)
    assert (back.wins, back.losses, back.ties) == (1, 2, 1)
    assert back.differences["cider_d"].value == -found.differences["cider_d"].value
    text = markdown(found, "old", "new").splitlines()
    assert text[0] == "| | old | new | difference | 95 % interval | p |"
    assert any(line.startswith("| CIDEr-D | ") for line in text)
    assert "new is better on 2, worse on 1, level on 1 of 4 images" in "\n".join(text)
    assert figures(found)["wins"] == 2
    assert figures(found)["worse"][0]["second"] == "a man"


def test_what_is_the_same_differs_in_nothing(samples: list[Sample]) -> None:
    found = compare(Judge(samples).judge(BAD), Judge(samples).judge(BAD))
    assert (found.wins, found.losses, found.ties, found.better, found.worse) == (0, 0, 4, (), ())
    assert all(gap.value == 0 and gap.p == 1 for gap in found.differences.values())


def test_both_are_scored_against_the_references_that_both_have(samples: list[Sample]) -> None:
    fewer = [replace(sample, captions=sample.captions[:1]) for sample in samples]
    found, same = compare(Judge(samples).judge(BAD), Judge(fewer).judge(GOOD)), Judge(fewer)
    assert found.first.model.values == same.judge(BAD).model.values
    assert found.second.model.values == same.judge(GOOD).model.values
    others = [replace(sample, captions=sample.captions[1:]) for sample in samples]
    with pytest.raises(DataError, match=r"no reference of photos/0\.jpg, .* in common; compare captions in the same"):
        compare(Judge(fewer).judge(BAD), Judge(others).judge(GOOD))


def test_other_images_cannot_be_compared(samples: list[Sample]) -> None:
    judge = Judge(samples)
    with pytest.raises(DataError, match="not of the same images"):
        compare(judge.judge(BAD), judge.judge(BAD[:3], range(3)))
    renamed = [replace(samples[0], name="x"), *samples[1:]]
    with pytest.raises(DataError, match="not of the same images"):
        compare(judge.judge(BAD), Judge(renamed).judge(BAD))
