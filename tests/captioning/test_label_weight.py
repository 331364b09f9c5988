"""Captions of a captioner whose search weighs its labels, from photos to words."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from captioner.captioning.batches import caption_memory, encode, generate, stream_tokens
from captioner.captioning.labels import label_bias
from captioner.checkpoint import Checkpoint
from captioner.config import GenerationConfig, LabelsConfig
from captioner.data.images import open_image
from captioner.data.transforms import preprocess
from captioner.errors import UsageError
from captioner.generation.label_bias import LabelBias, label_words
from captioner.training.tasks import Data

WORDS = ("circle", "square", "triangle", "zebra")
WEIGHED = GenerationConfig(label_weight=1.0)


@pytest.fixture
def labelling(checkpoint: Checkpoint) -> Checkpoint:
    """Return a captioner with a fresh labeller."""
    tokens = tuple(tuple(checkpoint.tokenizer.encode(word)) for word in WORDS)
    checkpoint.model.add_labeller(LabelsConfig(words=WORDS, tokens=tokens))
    checkpoint.model.eval()
    return checkpoint


@pytest.mark.parametrize("beams", [1, 3])
def test_labels_change_captions(labelling: Checkpoint, data: Data, beams: int) -> None:
    config = replace(WEIGHED, beams=beams, label_weight=5.0)
    pixels = [preprocess(open_image(sample.path), labelling.config.preprocess) for sample in data.train[:4]]
    with torch.inference_mode():
        memory = labelling.model.remember(encode(labelling, pixels))
    odds = torch.full((4, len(WORDS)), -9.0)
    odds[:, 2] = 9.0  # a triangle and nothing else
    plain = caption_memory(labelling, memory, pixels, replace(config, label_weight=0.0), labels=odds)
    found = caption_memory(labelling, memory, pixels, config, labels=odds)
    texts = [labelling.tokenizer.decode(candidates[0].tokens) for candidates in found]
    assert all("triangle" in text and "square" not in text and "circle" not in text for text in texts)
    assert found != plain
    assert caption_memory(labelling, memory, pixels, config) == plain, "without labels there is no bias"


def test_the_labels_of_photos_are_the_labellers(labelling: Checkpoint, data: Data) -> None:
    """Whole captions from files and a stream of words use the same labels."""
    labeller = labelling.model.labeller
    assert labeller is not None
    with torch.no_grad():
        labeller.classify.bias.copy_(torch.tensor([-9.0, -9.0, 9.0, -9.0]))
    config = GenerationConfig(label_weight=5.0)
    for sample in data.train[:3]:
        [found] = generate(labelling, [sample.path], config)
        assert isinstance(found, list)
        assert "triangle" in labelling.tokenizer.decode(found[0].tokens)
        streamed = [t for t in stream_tokens(labelling, sample.path, config) if t != labelling.config.text.eos_id]
        assert tuple(streamed) == found[0].tokens


def test_values_come_from_log_odds_and_weight(labelling: Checkpoint) -> None:
    odds = torch.tensor([[1.0, -1.0, 0.0, 2.0]])
    bias = label_bias(labelling, odds, replace(WEIGHED, label_weight=0.3))
    wanted = LabelBias.of(label_words(WORDS, labelling.tokenizer), odds, 0.3)
    assert bias is not None
    assert bias.values.equal(wanted.values)
    assert label_bias(labelling, odds, GenerationConfig()) is None
    assert label_bias(labelling, None, WEIGHED) is None


def test_labels_are_words_of_english_captions(labelling: Checkpoint) -> None:
    labelling.tokenizer.config = replace(
        labelling.tokenizer.config, languages={"zh": labelling.tokenizer.config.bos_id}
    )
    assert label_bias(labelling, torch.zeros(1, len(WORDS)), WEIGHED) is None


def test_a_captioner_without_labels_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(UsageError, match="predicts no labels; leave label_weight out"):
        generate(checkpoint, [], WEIGHED)
    with pytest.raises(UsageError, match="predicts no labels; leave label_weight and name_sure_labels out"):
        generate(checkpoint, [], replace(WEIGHED, beams=3, name_sure_labels=0.5))
