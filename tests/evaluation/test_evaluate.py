"""Figures of a model on a dataset, each compared with a second computation."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from captioner.checkpoint import Checkpoint
from captioner.config import Calibration, GenerationConfig
from captioner.data.images import open_image
from captioner.data.samples import Sample
from captioner.data.transforms import preprocess
from captioner.errors import DataError
from captioner.evaluation.decode import judged, word_chances
from captioner.evaluation.evaluate import evaluate, fingerprint
from captioner.evaluation.tables import figures, statements
from captioner.generation.hypothesis import Hypothesis
from captioner.metrics.words import words
from captioner.training.tasks import Data

from ..text.wordpiece import wordpiece


@pytest.fixture
def known(data: Data) -> list[Sample]:
    """Return the images that the captioner has overfitted, with their caption."""
    return [replace(sample, captions=sample.captions[:1]) for sample in data.train]


def log_prob(checkpoint: Checkpoint, sample: Sample, caption: str, *, ended: bool = True) -> float:
    """Return log p(caption, end | image), or without its end, one token after the other."""
    ids = checkpoint.config.text
    pixels = preprocess(open_image(sample.path), checkpoint.config.preprocess)[None]
    total, past = 0.0, [ids.bos_id]
    for token in [*checkpoint.tokenizer.encode(caption), *([ids.eos_id] if ended else [])]:
        with torch.no_grad():
            logits = checkpoint.model(torch.tensor([[past]]), pixels).logits[0, 0, -1]
        total += float(logits.double().log_softmax(-1)[token])
        past.append(token)
    return total


def test_perplexity_is_per_word_with_the_end_as_one(checkpoint: Checkpoint, data: Data) -> None:
    samples = [data.train[0], replace(data.validation[0], captions=("A red star, really.", "two dogs", "a"))]
    total = sum(log_prob(checkpoint, sample, caption) for sample in samples for caption in sample.captions)
    count = sum(len(words(caption)) + 1 for sample in samples for caption in sample.captions)
    assert count == sum(len(words(c)) for c in data.train[0].captions) + 2 + 4 + 2 + 1 + 3
    found = evaluate(checkpoint, samples)
    assert found.perplexity == pytest.approx(math.exp(-total / count), rel=1e-4)
    assert (len(found.judgement.samples), found.judgement.references) == (2, 5)
    inside = found.of_model.perplexity_interval
    assert inside.low <= found.perplexity <= inside.high


def test_of_a_reference_beyond_the_context_the_words_within_it_count(checkpoint: Checkpoint, data: Data) -> None:
    first, second = data.train[0], data.train[1]
    context = checkpoint.config.decoder.context
    phrase = " ".join(f"a {word}," for word in ("red", "blueish", "dog", "extraordinary") * 9)
    fitting, longest = "", phrase.split()
    while len(checkpoint.tokenizer.encode(f"{fitting} {longest[0]}")) <= context:
        fitting = f"{fitting} {longest.pop(0)}".strip()
    assert longest
    samples = [replace(first, captions=(phrase, "a dog")), replace(second, captions=("a red star", "x" * 500))]
    total = log_prob(checkpoint, first, fitting, ended=False)
    total += log_prob(checkpoint, first, "a dog") + log_prob(checkpoint, second, "a red star")
    count = len(words(fitting)) + 3 + 4
    found = evaluate(checkpoint, samples)
    assert found.perplexity == pytest.approx(math.exp(-total / count), rel=1e-4)
    assert (found.of_model.cut_references, found.of_model.context) == (2, context)
    told = [line for line in statements(found) if "longer than" in line]
    assert told == [
        f"perplexity: 2 of 4 references are longer than the model's context of {context} tokens and count with the "
        "words within it"
    ]
    assert figures(found)["cut_references"] == 2
    longer = evaluate(checkpoint, [replace(first, captions=(f"{phrase} {phrase}", "a dog")), samples[1]])
    assert longer.perplexity == found.perplexity


def test_references_in_another_language_are_left_out(bilingual: Path, data: Data) -> None:
    from captioner.checkpoint import load
    from captioner.evaluation.probe import markdown, probe

    checkpoint = load(bilingual)
    english = [replace(sample, captions=(sample.captions[0], "a thing")) for sample in data.train[:3]]
    chinese = [replace(sample, captions=("红色的圆",)) for sample in english]
    both = [replace(one, captions=one.captions + other.captions) for one, other in zip(english, chinese, strict=True)]
    for language, alone, left in (("en", english, 3), ("zh", chinese, 6)):
        generation = replace(checkpoint.generation, language=language)
        mixed, found = (evaluate(checkpoint, samples, generation) for samples in (both, alone))
        assert mixed.model.values == found.model.values
        assert mixed.perplexity == pytest.approx(found.perplexity)
        assert (mixed.of_model.other_references, found.of_model.other_references) == (left, 0)
        assert any(line.startswith(f"{left} references are left out because") for line in statements(mixed))
        probed = probe(checkpoint, both, generation)
        assert (probed.cider_d, probed.other_references) == (probe(checkpoint, alone, generation).cider_d, left)
        assert f"{left} references are left out because" in markdown(probed)


def test_a_perplexity_of_nothing_is_no_number(checkpoint: Checkpoint, data: Data) -> None:
    samples = [replace(sample, captions=("x" * 500,)) for sample in data.train[:2]]
    found = evaluate(checkpoint, samples)
    assert math.isnan(found.perplexity)
    assert found.of_model.cut_references == 2
    json.dumps(figures(found), allow_nan=False)


def test_nothing_is_cut_of_what_fits(checkpoint: Checkpoint, known: list[Sample]) -> None:
    found = evaluate(checkpoint, known[:2])
    assert found.of_model.cut_references == 0
    assert not [line for line in statements(found) if "longer than" in line]


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_what_it_knows_by_heart_it_says(checkpoint: Checkpoint, known: list[Sample], batch_size: int) -> None:
    seen: list[int] = []
    found = evaluate(checkpoint, known, batch_size=batch_size, progress=seen.append)
    assert found.captions == tuple(sample.captions[0] for sample in known)
    assert found.model.bleu.bleu4 == pytest.approx(100)
    assert found.model.cider_d == pytest.approx(1000)
    assert found.diversity.distinct_captions == 100
    assert found.of_model.seconds > 0
    assert 1 < found.perplexity < 1.5
    assert sum(seen) == 8


def test_the_weights_and_the_words_are_named(checkpoint: Checkpoint, known: list[Sample], learnt: Path) -> None:
    found = evaluate(checkpoint, known[:2], training=known)
    whole = hashlib.sha256((learnt / "best" / "model.safetensors").read_bytes()).hexdigest()
    assert found.of_model.fingerprint == whole[:12]
    assert found.judgement.words == "ptb"
    assert found.diversity.novel == 0
    assert evaluate(replace(checkpoint, source=""), known[:2], words="characters").of_model.fingerprint == ""


def test_beams_and_defaults_reach_the_search(checkpoint: Checkpoint, known: list[Sample]) -> None:
    checkpoint.generation = GenerationConfig(beams=2, max_tokens=3)
    found = evaluate(checkpoint, known)
    assert found.of_model.generation == GenerationConfig(beams=2, max_tokens=3)
    assert all(len(checkpoint.tokenizer.encode(caption)) <= 3 for caption in found.captions)
    assert evaluate(checkpoint, known, GenerationConfig(beams=1)).model.bleu.bleu4 == pytest.approx(100)


def test_an_unreadable_image_is_left_out_and_named(checkpoint: Checkpoint, known: list[Sample], tmp_path: Path) -> None:
    gone = Sample(name="gone.png", path=tmp_path / "gone.png", captions=("a dog",))
    whole = evaluate(checkpoint, known)
    found = evaluate(checkpoint, [gone, *known[:3], gone, *known[3:]], batch_size=2)
    assert found.problems == (f"cannot read {tmp_path / 'gone.png'}: there is no such file",) * 2
    assert found.judgement == whole.judgement
    assert found.of_model.calibration_error == pytest.approx(whole.of_model.calibration_error, abs=1e-3)
    assert found.perplexity == pytest.approx(whole.perplexity, rel=1e-5)
    with pytest.raises(DataError, match=r"none of the 2 images can be read; the first reason: .*gone\.png"):
        evaluate(checkpoint, [gone, gone])
    with pytest.raises(DataError, match="no images to evaluate on"):
        evaluate(checkpoint, [])


def test_the_fingerprint_is_of_the_content(known: list[Sample]) -> None:
    own = fingerprint(known)
    assert fingerprint(known[::-1]) == own
    assert len(own) == 12
    moved = [replace(sample, path=Path("/elsewhere") / sample.name) for sample in known]
    assert fingerprint(moved) == own
    assert fingerprint(known[1:]) != own
    assert fingerprint([replace(known[0], name="x"), *known[1:]]) != own
    assert fingerprint([replace(known[0], captions=("x",)), *known[1:]]) != own
    assert fingerprint([replace(known[0], captions=("x", "y"))]) != fingerprint([replace(known[0], captions=("xy",))])
    assert fingerprint([replace(known[0], name="\udcff")])


def test_words_are_backed_by_what_people_say(checkpoint: Checkpoint, known: list[Sample]) -> None:
    tokenizer = checkpoint.tokenizer
    tokens = tuple(tokenizer.encode("a zebra"))
    hypothesis = Hypothesis(tokens, (-0.5,) * (len(tokens) + 1), 0.0)
    sample = replace(known[0], captions=("A cat.", "one zebra, perhaps"))
    found = word_chances(hypothesis, sample, tokenizer, Calibration(), words)
    first = len(tokenizer.encode("a"))
    assert [right for _, right in found] == [True, True]
    assert [p for p, _ in found] == pytest.approx([math.exp(-0.5 * first), math.exp(-0.5 * (len(tokens) - first))])
    assert not word_chances(hypothesis, replace(sample, captions=("cat",)), tokenizer, Calibration(), words)[1][1]


def test_captions_of_wordpiece_are_cut_at_whole_words(tmp_path: Path) -> None:
    tokenizer = wordpiece(tmp_path)
    captions = [tokenizer.encode("a man's t-shirt, a dog"), tokenizer.encode("a doghouse")]
    cut = Hypothesis(tuple(captions[0][:6]), (-1.0,) * 6, 0.0)
    whole = Hypothesis(tuple(captions[1]), (-1.0,) * 4, 0.0)
    assert judged([cut, whole], captions, tokenizer) == (-8.0, {0: "a man's"})


def test_words_of_wordpiece_are_compared_with_those_of_people(tmp_path: Path) -> None:
    tokenizer = wordpiece(tmp_path)
    tokens = tuple(tokenizer.encode("a man's t-shirt"))
    hypothesis = Hypothesis(tokens, (-1.0,) * (len(tokens) + 1), 0.0)
    sample = Sample(name="x", path=Path("x.jpg"), captions=("The man's hat", "a red T-shirt"))
    found = word_chances(hypothesis, sample, tokenizer, Calibration(), words)
    assert [said for _, said in found] == [True, True, True]
    assert [round(chance, 3) for chance, _ in found] == [round(math.exp(-n), 3) for n in (1, 3, 3)]
