"""A captioner of two languages with labels: every interface gives both."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import captioner
from captioner.captioning.embeddings import embed_texts
from captioner.captioning.labels import LEAST_PROBABLE
from captioner.captioning.matching import match_captions
from captioner.checkpoint import load
from captioner.cli import main
from captioner.config import GenerationConfig, HeadsConfig, TextConfig
from captioner.data.images import open_image
from captioner.data.transforms import preprocess
from captioner.errors import ConfigError
from captioner.generation import refine
from captioner.inference.linears import Precision
from captioner.metrics.nouns import LabelFinder
from captioner.models.heads import end_states, pad_and_close
from captioner.training.tasks import Data

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pipe(bilingual: Path) -> captioner.CaptionPipeline:
    return captioner.load(bilingual / "best", device="cpu")


def english(data: Data) -> list[str]:
    return [sample.captions[0].lower() for sample in data.train]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("beams", [1, 3])
def test_each_language_has_its_captions_in_every_precision(
    bilingual: Path, data: Data, precision: Precision, beams: int
) -> None:
    pipe = captioner.load(bilingual / "best", device="cpu", precision=precision)
    photos = [sample.path for sample in data.train]
    assert [c.text for c in pipe.caption(photos, beams=beams)] == english(data)
    chinese = [c.text for c in pipe.caption(photos, beams=beams, language="zh")]
    assert chinese[2:4] == ["三角形", "绿色的星"]
    assert len(set(chinese)) == 8
    assert [c.text for c in pipe.caption(photos[:3], beams=beams, language="en")] == english(data)[:3]
    assert [pipe.caption(photo, beams=beams, language="zh").text for photo in photos[:3]] == chinese[:3]


def test_labels_come_with_the_captions(pipe: captioner.CaptionPipeline, data: Data) -> None:
    finder = LabelFinder(("circle", "square", "triangle", "star", "elephant"))
    for sample in data.train:
        labels = pipe.caption(sample.path).labels
        assert {label.text for label in labels} == {finder.labels[n] for n in finder.find(sample.captions[0])}
        assert all(LEAST_PROBABLE <= label.probability <= 1 for label in labels)


def test_scores_and_explanations_know_a_captions_language(
    pipe: captioner.CaptionPipeline, data: Data, tmp_path: Path
) -> None:
    photo = data.train[2].path
    assert pipe.score(photo, "三角形") > -1
    both = pipe.score(photo, [english(data)[2], "三角形"])
    assert both[1] == pytest.approx(pipe.score(photo, "三角形"), abs=1e-4)
    assert min(both) > -1.5
    explained = pipe.explain(photo, language="zh")
    assert explained.caption == "三角形"
    given = pipe.explain(photo, "三角形")
    assert given.probabilities == pytest.approx(explained.probabilities, abs=1e-5)
    assert given.maps.shape[1:] == (2, 2)
    assert (given.off_grid > 0).all(), "the decoder reads labels, which have no place in the photo"
    assert given.labels == explained.labels
    assert [label.text for label in given.labels] == [label.text for label in pipe.caption(photo).labels]
    given.save(tmp_path / "page.html")
    assert f"{given.labels[0].text} {given.labels[0].probability:.0%}" in (tmp_path / "page.html").read_text()


def test_required_chinese_words_may_stand_beside_others() -> None:
    pipe, photo = captioner.load(device="cpu"), ROOT / "datasets" / "photos" / "cow.jpg"
    own = pipe.caption(photo, language="zh").text
    assert own.endswith("的牛在草地上吃草")
    assert pipe.caption(photo, language="zh", require=["牛", "草地"], beams=8).text == own


def test_an_explanation_reads_a_caption_in_the_language_of_its_search(
    pipe: captioner.CaptionPipeline, data: Data
) -> None:
    """Also a caption without a Chinese character."""
    options: dict[str, Any] = {"language": "zh", "prefix": "red", "max_tokens": 3, "beams": 1}
    caption = pipe.caption(data.train[0].path, **options)
    found = pipe.explain(data.train[0].path, **options)
    assert found.caption == caption.text
    chances = dict(zip(found.words, found.probabilities.tolist(), strict=True))
    hypothesis = pipe.explain(data.train[0].path, caption.text)  # read as English
    assert chances != pytest.approx(dict(zip(hypothesis.words, hypothesis.probabilities.tolist(), strict=True)))


def test_an_unknown_language_is_one_sentence(pipe: captioner.CaptionPipeline, data: Data) -> None:
    with pytest.raises(ConfigError, match="does not write 'fr'; it writes en, zh"):
        pipe.caption(data.train[0].path, language="fr")


def test_the_command_writes_languages_and_labels(
    bilingual: Path, data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = str(data.train[2].path)
    assert main(["caption", photo, "--model", str(bilingual / "best"), "--language", "zh", "--details"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["caption"] == "三角形"
    finder = LabelFinder(("circle", "square", "triangle", "star", "elephant"))
    assert [name for name, _ in record["labels"]]
    assert {name for name, _ in record["labels"]} == {finder.labels[n] for n in finder.find(data.train[2].captions[0])}


def test_a_language_may_be_the_checkpoints_own(bilingual: Path, data: Data, tmp_path: Path) -> None:
    checkpoint = load(bilingual / "best")
    checkpoint.generation = replace(checkpoint.generation, language="zh")
    captioner.save(checkpoint, tmp_path / "zh")
    pipe = captioner.load(tmp_path / "zh", device="cpu")
    assert pipe.caption(data.train[2].path).text == "三角形"
    assert GenerationConfig().language == ""


def test_refinement_reads_a_caption_in_its_language(
    pipe: captioner.CaptionPipeline, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    languages = pipe.checkpoint.config.text.languages
    begun = []

    class Recorded(refine.Writing):
        def __init__(self, decoder: Any, memory: Any, text: TextConfig, start: Any) -> None:
            begun.append(text.bos_id)
            super().__init__(decoder, memory, text, start)

    monkeypatch.setattr(refine, "Writing", Recorded)
    for language in ("zh", "en"):
        begun.clear()
        pipe.caption(data.train[0].path, language=language, refine=1)
        assert set(begun) == {languages[language]}


def test_heads_read_a_text_in_its_language(bilingual: Path, data: Data) -> None:
    checkpoint = load(bilingual / "best")
    checkpoint.model.add_heads(HeadsConfig(width=6, matching=True))
    text, heads, decoder = checkpoint.config.text, checkpoint.model.heads, checkpoint.model.decoder
    assert heads is not None
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter)
    texts = ["三角形", english(data)[2]]
    ids = [checkpoint.tokenizer.encode(each) for each in texts]
    with torch.inference_mode():
        alone = [
            heads.of_texts(end_states(decoder, *pad_and_close([tokens], text, 32, [text.languages[language]])))
            for tokens, language in zip(ids, ("zh", "en"), strict=True)
        ]
        pixels = preprocess(open_image(data.train[2].path), checkpoint.config.preprocess)[None]
        memory = checkpoint.model.remember(checkpoint.model.encode_image(pixels))
        tokens, ends = pad_and_close(ids, text, 32, [text.languages["zh"], text.languages["en"]])
        odds = heads.matches(end_states(decoder, tokens, ends, memory.select(torch.tensor([0, 0]))))
    torch.testing.assert_close(embed_texts(checkpoint, texts), torch.cat(alone), atol=1e-5, rtol=1e-5)
    assert match_captions(checkpoint, memory, [ids])[0] == pytest.approx(odds.sigmoid().tolist(), abs=1e-5)
