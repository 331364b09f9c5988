"""A caption that omits a sure label is replaced by one that names it, if that one is nearly as probable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from captioner.captioning import sure_labels
from captioner.captioning.batches import caption_memory, generate
from captioner.captioning.labels import Label
from captioner.captioning.sure_labels import Omission, is_better, name_sure_labels, omissions
from captioner.checkpoint import Checkpoint
from captioner.config import ClassifierConfig, GenerationConfig, LabelsConfig, WordRules, with_options
from captioner.data.images import open_image
from captioner.data.transforms import preprocess
from captioner.errors import ConfigError, UsageError
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.rules import compile_rules, required
from captioner.models.decoder import ImageMemory
from captioner.training.tasks import Data

WORDS = ("circle", "square", "triangle", "person", "zebra", "horse")
NET = GenerationConfig(beams=3, name_sure_labels=0.6)


@pytest.fixture
def naming(checkpoint: Checkpoint) -> Checkpoint:
    """Return a captioner that has words of labels, but reads no label tokens."""
    tokens = tuple(tuple(checkpoint.tokenizer.encode(word)) for word in WORDS)
    checkpoint.model.config = replace(checkpoint.model.config, labels=LabelsConfig(words=WORDS, tokens=tokens))
    return checkpoint


@pytest.fixture
def memory(naming: Checkpoint, data: Data) -> ImageMemory:
    pixels = torch.stack([preprocess(open_image(s.path), naming.config.preprocess) for s in data.train[:4]])
    with torch.inference_mode():
        return naming.model.remember(naming.model.encode_image(pixels))


def log_odds(*rows: dict[str, float]) -> Tensor:
    """Return the log-odds of labels with these probabilities, the others 0.01."""
    return torch.tensor([[row.get(word, 0.01) for word in WORDS] for row in rows]).logit()


def written(checkpoint: Checkpoint, text: str) -> list[Hypothesis]:
    """Return the candidates of an image: one caption, of mean log-probability -1."""
    tokens = tuple(checkpoint.tokenizer.encode(text))
    return [Hypothesis(tokens, (-1.0,) * (len(tokens) + 1), 0.0)]


@pytest.mark.parametrize(
    ("caption", "probabilities", "label", "excluded"),
    [
        ("a horse in a field", {"zebra": 0.9}, "zebra", {"horse"}),
        ("a horse in a field", {"zebra": 0.9, "horse": 0.3}, "zebra", set()),  # both may be there
        ("two zebras in a field", {"zebra": 0.9}, None, set()),
        ("two men in a field", {"person": 0.9}, None, set()),
        ("a field", {"zebra": 0.9, "person": 0.95}, "person", set()),  # the most probable one
        ("a man in a field", {"zebra": 0.9, "person": 0.95}, "zebra", set()),
        ("a field", {"zebra": 0.59}, None, set()),  # not sure
        ("a field", {}, None, set()),
    ],
)
def test_omissions(
    naming: Checkpoint, caption: str, probabilities: dict[str, float], label: str | None, excluded: set[str]
) -> None:
    [found] = omissions(naming, [written(naming, caption)], log_odds(probabilities), NET)
    assert (found.label.text if found else None) == label
    assert (found.excluded if found else set()) == excluded


def test_a_user_may_call_less_probable_labels_sure(naming: Checkpoint) -> None:
    field, odds = [written(naming, "a horse in a field")], log_odds({"zebra": 0.15, "horse": 0.14, "person": 0.09})
    [found] = omissions(naming, field, odds, replace(NET, name_sure_labels=0.1))
    assert found is not None
    assert (found.label.text, found.excluded) == ("zebra", {"horse"}), "neither is probable enough to be shown"
    assert omissions(naming, field, odds, replace(NET, name_sure_labels=0.2)) == [None]


def test_what_a_caption_would_lose(naming: Checkpoint) -> None:
    odds = log_odds({"zebra": 0.7, "square": 0.8, "circle": 0.4, "triangle": 0.6})
    [found] = omissions(naming, [written(naming, "a circle and a triangle")], odds, NET)
    assert found is not None
    assert (found.label.text, [label.text for label in found.named]) == ("square", ["triangle"])


def test_with_a_classifier_only_labels_that_it_knows_count(naming: Checkpoint) -> None:
    labels = naming.config.labels
    assert labels is not None
    classes = tuple((0,) if word == "zebra" else () for word in WORDS)
    classifier = ClassifierConfig(blocks=1, count=1, classes=classes)
    naming.model.config = replace(naming.model.config, labels=replace(labels, classifier=classifier))
    [found] = omissions(naming, [written(naming, "a field")], log_odds({"zebra": 0.7, "square": 0.9}), NET)
    assert found is not None
    assert found.label.text == "zebra"


def test_labels_are_words_of_english_captions(naming: Checkpoint) -> None:
    captions = [written(naming, "a field"), []]
    omitted, none = omissions(naming, captions, log_odds({"zebra": 0.9}, {"zebra": 0.9}), NET)
    assert omitted is not None
    assert none is None, "an image without a caption has none to replace"
    naming.tokenizer.config = replace(naming.tokenizer.config, languages={"zh": naming.tokenizer.config.bos_id})
    assert omissions(naming, captions, log_odds({"zebra": 0.9}, {"zebra": 0.9}), NET) == [None, None]


def shapes_of(checkpoint: Checkpoint, found: Sequence[Sequence[Hypothesis]]) -> list[set[str]]:
    texts = [checkpoint.tokenizer.decode(candidates[0].tokens) for candidates in found]
    return [{shape for shape in WORDS[:3] if shape in text} for text in texts]


def test_each_image_gets_its_own_label(
    naming: Checkpoint, memory: ImageMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = caption_memory(naming, memory, [], replace(NET, name_sure_labels=0.0))
    missing = [next(shape for shape in WORDS[:3] if shape not in shapes) for shapes in shapes_of(naming, plain)]
    labels = log_odds(*({shape: 0.9} for shape in missing[:3]), {})
    rules = compile_rules(NET, naming.tokenizer)
    assert any(name_sure_labels(naming, memory, plain, labels, NET, rules=rules)[i] != plain[i] for i in range(3))
    monkeypatch.setattr(sure_labels, "is_better", lambda *_: False)
    assert name_sure_labels(naming, memory, plain, labels, NET, rules=rules) == plain
    monkeypatch.setattr(sure_labels, "is_better", lambda *_: True)
    forced = name_sure_labels(naming, memory, plain, labels, NET, rules=rules)
    assert all(shape in shapes for shape, shapes in zip(missing[:3], shapes_of(naming, forced), strict=False))
    assert forced[3] == plain[3], "no sure label"
    assert [group[1:] for group in forced] == [group[1:] for group in plain]
    alone = memory.select(torch.tensor([1]))
    [single] = name_sure_labels(naming, alone, plain[1:2], labels[1:2], NET, rules=rules)
    assert single[0].tokens == forced[1][0].tokens


@pytest.mark.parametrize(
    ("probability", "word", "others", "lost", "better"),
    [
        (0.6, -9.0, -1.0, 0.0, True),  # log 0.6 is above log 0.4, and the other tokens are as probable
        (0.4, -9.0, -1.0, 0.0, False),
        (0.6, -0.1, -1.2, 0.0, False),  # the decoder's own probability of the word does not count
        (1.0, -9.0, -1.5, 0.0, True),
        (1.0, -9.0, -3.0, 0.0, False),  # a nonsense caption, however sure the label is
        (0.6, -9.0, -1.0, 0.55, True),  # of a square that the old caption names; log-odds 0.2 against 0.4
        (0.6, -9.0, -1.0, 0.65, False),  # 0.6 against 0.4
    ],
)
def test_the_labeller_decides_how_probable_its_word_is(
    naming: Checkpoint, probability: float, word: float, others: float, lost: float, better: bool
) -> None:
    tokens, phrase = tuple(naming.tokenizer.encode("a red circle")), required("circle", naming.tokenizer)
    span = phrase.span_in(tokens)
    assert span is not None
    new = [word if span[0] <= place < span[1] else others for place in range(len(tokens) + 1)]
    old = Hypothesis((), (-1.0,) * new.count(others), 0.0)
    named = (Label("circle", 0.9), Label("square", max(lost, 0.5)))  # the circle stays
    omitted = Omission(Label("circle", probability), phrase, named=named)
    assert is_better(naming, Hypothesis(tokens, tuple(new), 0.0), old, omitted) is better


def test_greedy_decoding_has_a_net_too(naming: Checkpoint, memory: ImageMemory) -> None:
    config = GenerationConfig(name_sure_labels=0.5)
    plain = caption_memory(naming, memory, [], GenerationConfig())
    labels = log_odds(*[{"circle": 0.9, "square": 0.8, "triangle": 0.7}] * 4)
    found = name_sure_labels(naming, memory, plain, labels, config, rules=compile_rules(config, naming.tokenizer))
    assert [len(group) for group in found] == [1] * 4


@pytest.mark.parametrize(
    "rules", [WordRules(forbid=("circle", "circles")), WordRules(require=("zebra zebra zebra zebra",))]
)
def test_a_caption_stays_if_the_rules_allow_no_other(naming: Checkpoint, memory: ImageMemory, rules: WordRules) -> None:
    config = replace(NET, rules=rules, max_tokens=32)
    plain = [written(naming, "a field")] * 4
    labels = log_odds(*[{"circle": 0.9}] * 4)
    compiled = compile_rules(config, naming.tokenizer)
    found = name_sure_labels(naming, memory, plain, labels, replace(config, max_tokens=4), rules=compiled)
    assert found == plain


def test_the_option_reaches_the_search(naming: Checkpoint, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def look(*args: object, **more: object) -> object:
        asked.append(args)
        return args[2]

    monkeypatch.setattr("captioner.captioning.batches.name_sure_labels", look)
    naming.model.add_labeller(naming.config.labels)  # type: ignore[arg-type]
    photo = data.train[0].path
    list(generate(naming, [photo], GenerationConfig()))
    assert not asked
    list(generate(naming, [photo], NET))
    [(_, _, _, labels, config)] = asked
    assert labels.shape == (1, len(WORDS))  # type: ignore[attr-defined]
    assert config == NET


def test_a_captioner_without_labels_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(UsageError, match="predicts no labels; leave name_sure_labels out"):
        generate(checkpoint, [], NET)


def test_sampling_has_no_net() -> None:
    assert with_options(NET, {"temperature": 0.7}).name_sure_labels == 0
    assert with_options(with_options(NET, {"top_k": 3}), {"name_sure_labels": 0.7}).sampling is None
    with pytest.raises(ConfigError, match="name_sure_labels needs a search; drop sampling"):
        with_options(NET, {"temperature": 0.7, "name_sure_labels": 0.7})
