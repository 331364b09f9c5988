"""Stability and presumptions: shares counted by hand, and the views of a photo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.checkpoint import Checkpoint
from captioner.data.samples import Sample
from captioner.errors import DataError
from captioner.evaluation import probe as module
from captioner.evaluation.people import named_kinds, presumption
from captioner.evaluation.probe import VIEWS, content, markdown, probe
from captioner.metrics.cider import cider_d
from captioner.metrics.words import words
from captioner.pipelines import CaptionPipeline
from captioner.training.tasks import Data


@pytest.fixture
def known(data: Data) -> list[Sample]:
    """Return the images that the captioner has overfitted."""
    return [replace(sample, captions=sample.captions[:1]) for sample in data.train]


def test_the_views() -> None:
    values = np.arange(0, 200, dtype=np.uint8).reshape(10, 20)
    image = Image.fromarray(np.stack([values] * 3, -1))
    mirrored, dark, cut = (np.asarray(change(image))[..., 0] for change in VIEWS.values())
    assert (mirrored == values[:, ::-1]).all()
    assert abs(dark.astype(int) - values // 2).max() <= 1
    assert (cut == values[1:-1, 2:-2]).all()


def test_a_view_that_changes_nothing_changes_no_caption(
    checkpoint: Checkpoint, known: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VIEWS", {"the same": lambda image: image})
    [same] = probe(checkpoint, known).steadiness
    assert (same.changed, same.content, same.lost, same.difference) == (0, 0, 0, 0)
    assert (same.interval.low, same.interval.high) == (0, 0)


def test_another_photo_changes_all_that_another_photo_says(
    checkpoint: Checkpoint, known: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A view that shows the first photo always gives its caption."""
    first = Image.open(known[0].path).convert("RGB")
    monkeypatch.setattr(module, "VIEWS", {"another": lambda image: first})
    found = probe(checkpoint, known, batch_size=3)
    pipe = CaptionPipeline(checkpoint)
    texts = [words(pipe.caption(sample.path).text) for sample in known]
    references = [[words(caption) for caption in sample.captions] for sample in known]
    [another] = found.steadiness
    assert another.changed == 100 * sum(text != texts[0] for text in texts) / len(texts) > 50
    gone = sum(len(content(text) - content(texts[0])) for text in texts)
    assert another.lost == pytest.approx(100 * gone / sum(len(content(text)) for text in texts))
    assert found.cider_d == cider_d(texts, references).mean
    wanted = cider_d([texts[0]] * len(texts), references).mean
    assert another.cider_d == pytest.approx(wanted)
    assert another.difference == pytest.approx(wanted - found.cider_d)
    assert another.interval.low < another.difference < another.interval.high < 0


def test_bad_images_are_left_out(checkpoint: Checkpoint, known: list[Sample], tmp_path: Path) -> None:
    bad = replace(known[0], path=tmp_path / "gone.png")
    found = probe(checkpoint, [known[0], bad, known[1]])
    assert found.images == 2
    assert found.problems == (f"cannot read {tmp_path / 'gone.png'}: there is no such file",)
    with pytest.raises(DataError, match=r"none of the 1 images can be probed.*no such file"):
        probe(checkpoint, [bad])


def test_kinds_of_words() -> None:
    assert named_kinds(["a", "boy", "and", "his", "dog"]) == {"male", "child"}
    assert named_kinds(["an", "elderly", "woman"]) == {"female", "adult", "old"}
    assert named_kinds(["two", "people"]) == set()


def test_presumption_counted_by_hand() -> None:
    captions = [
        [("a", 1.0), ("man", 0.8), ("runs", 0.1)],  # two of four references
        [("a", 1.0), ("boy", 0.6)],  # one of four references
        [("men", 0.4), ("and", 1.0), ("man", 0.2)],  # the references name a woman
        [("his", 0.5), ("dog", 1.0)],  # no reference names it
        [("a", 1.0), ("woman", 0.9)],  # not about this kind
    ]
    references = [
        ["a man", "the boy", "a person", "a woman"],
        ["a boy", "a child", "a kid", "someone"],
        ["a woman", "people", "they", "two"],
        ["a dog", "a person", "dogs", "an animal"],
        ["a man", "a man", "a man", "a man"],
    ]
    found = presumption("male", captions, [[text.split() for text in of] for of in references])
    assert found.captions == 4
    assert found.confidence == pytest.approx(100 * (0.8 + 0.6 + 0.4 + 0.2 + 0.5) / 5)
    assert (found.agree, found.most, found.contradict, found.presumed) == (50, 25, 25, 25)
    assert presumption("old", captions, [[text.split() for text in of] for of in references]).captions == 0


def test_the_table_is_markdown(checkpoint: Checkpoint, known: list[Sample]) -> None:
    people = [replace(sample, captions=("a man",)) for sample in known]
    found = probe(checkpoint, people)
    found = replace(found, people=(presumption("male", [[("man", 0.5)]], [[["a", "man"]]]),))
    lines = markdown(found).splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert len(tables) == 2 + len(VIEWS) + 3
    assert {line.count("|") for line in tables[: 2 + len(VIEWS)]} == {7}
    assert tables[-1] == "| male | 1 | 50 % | 100 % | 100 % | 0 % | 0 % |"
