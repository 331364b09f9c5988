"""The benchmark of neutral captions: human captions made neutral, and its tables."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from captioner.captioning.captions import Caption

BENCH = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "bench_neutral.py")))
SEEN = ["a dog runs on the wet beach", "two people sit on a green bench", "a red car in a narrow street"]


@pytest.mark.parametrize(
    ("caption", "neutral"),
    [
        ("A man and a woman ride", "two people ride"),
        ("a boy and a girl sit", "two children sit"),
        ("an old man's dog", "a person's dog"),
        ("a little boy rides his bike", "a little child rides their bike"),
        ("she is on her horse", "they are on their horse"),
        ("a dog jumps on her", "a dog jumps on them"),
        ("he jumps while a boy watches him", "they jump while a child watches them"),
        ("an old car and a dress", "an old car and a dress"),
    ],
)
def test_human_captions_are_made_neutral(caption: str, neutral: str) -> None:
    assert BENCH.neutralised(caption) == neutral
    assert BENCH.presumes(caption) == (caption.lower() != neutral)


def test_neutral_captions_score_best_against_neutral_ones() -> None:
    plain = [Caption(text, -1.0, 0.5) for text in ("a man on a hill in the snow", *SEEN)]
    neutral = [Caption(text, -1.0, 0.4) for text in ("a person on a hill in the snow", *SEEN)]
    references = [(caption.text,) * 2 for caption in plain]
    rows: list[list[str]] = [line.split(" | ") for line in BENCH.table(plain, neutral, references)]
    figures: dict[str, Any] = {row[0]: [float(cell.strip("% |")) for cell in row[1:6]] for row in rows[2:]}
    assert figures["| plain"][0] == 25.0
    assert figures["| `--neutral`"][0] == 0.0
    assert figures["| plain"][2] > figures["| `--neutral`"][2]
    assert figures["| `--neutral`"][4] > figures["| plain"][4]


def test_thresholds_count_wrong_captions_and_others() -> None:
    captions = [Caption("a plane in blue fog", -1.0, 0.4), *(Caption(text, -1.0, 0.7) for text in SEEN)]
    lines = list(BENCH.thresholds(captions, [("two cats asleep by an oven",), *((text,) for text in SEEN)]))
    assert lines[0] == "1 of 4 captions have a CIDEr-D below 20"
    (line,) = [line for line in lines if line.startswith("| 0.5 |")]
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    assert cells[:4] == ["25 %", "100 %", "100 %", "0 %"]
    assert float(cells[4]) < 20 < float(cells[5])
    assert cells[6:] == ["0 %", "100 %"]
