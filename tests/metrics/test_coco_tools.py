"""The metrics against the COCO tools: pycocoevalcap's scorers, and its Java tokenizer in the slow tests."""

import random
import shutil
from types import ModuleType

import numpy as np
import pytest

from captioner.metrics.bleu import bleu, bleu_counts, bleu_of
from captioner.metrics.cider import cider_d, cider_d_of
from captioner.metrics.meteor import Meteor, best_of, meteor_of, missing_for_meteor
from captioner.metrics.rouge import rouge_l
from captioner.metrics.words import words

from .rows import row

pytest.importorskip("pycocoevalcap")
java = pytest.mark.skipif(shutil.which("java") is None, reason="no Java runtime")


def random_lines(tools: ModuleType, count: int, *, blanks: float) -> list[str]:
    """Return pieces of the raw text in random order, some of them with a trailing blank.

    None has a soft hyphen: ``words`` drops it everywhere, the tool keeps it inside an address.
    """
    chance = random.Random(count)
    pieces = sorted(
        {piece for group in tools.raw_groups() for line in group for piece in line.split() if "\xad" not in piece}
    )
    return [
        "".join(piece + " " * (chance.random() < blanks) for piece in chance.choices(pieces, k=chance.randint(1, 7)))
        for _ in range(count)
    ]


def agree(candidates: list[list[str]], references: list[list[list[str]]], tools: ModuleType) -> None:
    ours, theirs = bleu(candidates, references), tools.tool_scores(candidates, references)
    for name in ("bleu1", "bleu2", "bleu3", "bleu4"):
        assert getattr(ours, name) == pytest.approx(theirs[name], abs=0.01)
    assert cider_d(candidates, references).mean == pytest.approx(theirs["cider"], abs=0.01)
    assert rouge_l(candidates, references).mean() == pytest.approx(theirs["rouge_l"], abs=0.01)
    counted = row(candidates, references)
    assert bleu_of(bleu_counts(counted).sum(axis=0)) == pytest.approx(theirs["bleu4"], abs=0.01)
    assert cider_d_of(counted).mean() == pytest.approx(theirs["cider"], abs=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_scores_of_random_captions_of_all_lengths(seed: int, tools: ModuleType) -> None:
    chance = random.Random(seed)

    def caption(shortest: int) -> list[str]:
        return [chance.choice("abcdefg") for _ in range(chance.randint(shortest, 12))]

    candidates = [caption(0) for _ in range(60)]
    references = [[caption(1) for _ in range(chance.randint(1, 5))] for _ in range(60)]
    agree(candidates, references, tools)


@java
@pytest.mark.slow
@pytest.mark.parametrize("blanks", [0.0, 0.3, 1.0])
def test_words_of_random_raw_text_equal_the_tool(blanks: float, tools: ModuleType) -> None:
    lines = random_lines(tools, 20_000, blanks=blanks)
    wrong = [
        (line, theirs, ours)
        for line, theirs in zip(lines, tools.tool_words(lines), strict=True)
        if (ours := words(line)) != theirs
    ]
    assert wrong == []


@java
@pytest.mark.slow
def test_our_raw_text_equals_the_tools(tools: ModuleType) -> None:
    tokenized = tools.split_groups(tools.raw_groups())
    assert [[words(text) for text in group] for group in tools.raw_groups()] == tokenized
    agree([group[0] for group in tokenized], [group[1:] for group in tokenized], tools)


@java
@pytest.mark.slow
def test_dev_captions_equal_the_tools(tools: ModuleType, human_groups: list[list[str]]) -> None:
    tokenized = tools.split_groups(human_groups)
    assert [[words(text) for text in group] for group in human_groups] == tokenized
    agree([group[0] for group in tokenized], [group[1:] for group in tokenized], tools)


@java
@pytest.mark.slow
@pytest.mark.parametrize("key", ["raw_text", "flickr8k dev, first caption against the others"])
def test_meteor_equals_the_tool_for_every_image_and_the_corpus(key, tools, golden, request) -> None:
    groups = tools.raw_groups() if key == "raw_text" else request.getfixturevalue("human_groups")
    tokenized = [[words(text) for text in group] for group in groups]
    candidates, references = [group[0] for group in tokenized], [group[1:] for group in tokenized]
    candidates[1], candidates[2] = [], references[2][0]  # an empty caption; an equal one
    assert missing_for_meteor() == ""
    meteor = Meteor()
    counts = meteor.counts(candidates, references)
    corpus, *images = tools.tool_meteor(candidates, references)
    assert meteor_of(counts) == pytest.approx(images, abs=1e-6)
    assert float(meteor_of(counts.sum(axis=0))) == pytest.approx(corpus, abs=1e-6)
    flat = [(place, reference) for place, group in enumerate(references) for reference in group]
    pairs = meteor.pairs([candidates[place] for place, _ in flat], [reference for _, reference in flat])
    assert meteor_of(best_of(pairs, np.array([place for place, _ in flat]))) == pytest.approx(images, abs=1e-6)
    candidates = [group[0] for group in tokenized]
    stored = golden[key]["scores"]["meteor"]
    assert float(meteor_of(meteor.counts(candidates, references).sum(axis=0))) == pytest.approx(stored, abs=0.01)
    meteor.close()
