"""The page as text: complete, without network access, and with accessible names."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from captioner.data.samples import Sample
from captioner.evaluation.evaluate import Evaluation, judge_captions
from captioner.evaluation.report.confusions import missed_words, unsupported_words
from captioner.evaluation.report.curves import curves, log_of
from captioner.evaluation.report.page import chosen, page

from ...html.outline import Outline


@pytest.fixture
def found(samples: list[Sample], tmp_path: Path) -> Evaluation:
    Image.new("RGB", (400, 300), "navy").save(tmp_path / "0.png")
    pictured = [replace(samples[0], path=tmp_path / "0.png"), *samples[1:]]
    said = ["a dog <b>&", "two kids play with a ball", "", "a bowl bowl of fruit"]
    return judge_captions(said, pictured, training=[])


def test_the_page_is_whole_and_needs_no_network(found: Evaluation) -> None:
    text = page(found, 'model <x> "y" on dev')
    outline = Outline(text)
    assert outline.open == []
    assert not re.findall(r"(?:src|href|url|action)\s*[=(]\s*[\"']?(?:https?:|//)", text)
    assert "$" not in text.replace("${", "")
    assert "<title>Captions: model &lt;x&gt; &quot;y&quot; on dev</title>" in text
    assert "a dog &lt;b&gt;&amp;" in text
    assert text.count('<li class="card"') == 4
    assert text.count("This photo cannot be read.") == 3
    assert 'data-flags="repeats"' in text
    assert 'data-flags="empty"' in text
    assert "self-BLEU" in text
    assert "most doubtful" not in text  # a file of captions has no confidences


def test_everything_has_a_name(found: Evaluation) -> None:
    outline = Outline(page(found, "model"))
    assert outline.all("html")[0]["lang"] == "en"
    assert all(image["alt"] and image["width"] and image["height"] for image in outline.all("img"))
    assert outline.all("img")[0]["alt"] == "Photo, as a person describes it: a black dog runs on the beach"
    assert len(outline.all("main")) == len(outline.all("h1")) == 1
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {section["aria-labelledby"] for section in outline.all("section")} <= set(ids)
    assert all(link["href"] and link["href"][1:] in ids for link in outline.all("a"))
    assert len(outline.all("label")) == len(outline.all("select")) + len(outline.all("input"))
    assert all(header["scope"] in ("col", "row") for header in outline.all("th"))
    assert len(outline.all("table")) == len(outline.all("caption"))
    assert all(chart["role"] == "img" and "highest" in (chart["aria-label"] or "") for chart in outline.all("svg"))


def test_curves_of_the_run(found: Evaluation, tmp_path: Path) -> None:
    log = tmp_path / "run" / "log.jsonl"
    log.parent.mkdir()
    records = [{"kind": "train", "step": n, "loss": 4 / n, "note": "x"} for n in range(1, 1000)]
    records += [{"kind": "validation", "step": 7, "cider_d": 5.0, "loss": float("nan")}]
    log.write_text("\n".join(map(json.dumps, records)) + '\n{"kind": "tr')
    assert log_of(log.parent) == log_of(log.parent / "best") == log
    assert log_of(tmp_path / "elsewhere" / "best") is None
    assert log_of(None) is None
    drawn = curves(log)
    assert drawn.count("<svg") == 1  # the validation has one point
    assert drawn.count(",") < 1000
    assert "Training loss" in page(found, "model", log=log)
    assert '<a href="#curves">' in page(found, "model", log=log)
    log.write_text("")
    assert "no figure more than once" in page(found, "model", log=log)


def test_words_missed_and_said_in_vain() -> None:
    references = [[["a", "red", "car"], ["the", "red", "car"], ["a", "truck"]]] * 4 + [[["a", "blue", "boat"]]] * 2
    captions = [["a", "green", "car"]] * 3 + [["a", "red", "car"]] + [["a", "green", "boat"]] * 2
    (red,) = missed_words(captions, references)
    assert (red.word, red.people, red.missed) == ("red", 4, 3)  # truck: one person alone; blue: on two images only
    assert red.instead == (("green", 3),)
    (green,) = unsupported_words(captions, references)
    assert (green.word, green.used, green.alone) == ("green", 5, 5)


def test_a_large_set_shows_its_ends(samples: list[Sample]) -> None:
    longest = "a b c d e f g h i j"  # longest in words, not in letters
    said = [*(sample.captions[0] for sample in samples), longest, *["a dog", "an extraordinarily longhaired dog"] * 10]
    many = [replace(samples[n % 4], name=str(n)) for n in range(len(said))]
    found = judge_captions(said, many)
    assert chosen(found) == list(range(25))
    shown = chosen(found, 8)
    scores = found.model.per_image
    assert {scores.index(max(scores)), scores.index(min(scores)), 4} <= set(shown)
    assert len(shown) <= 8
