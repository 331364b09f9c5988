"""Answers to questions about photos: several, follow-ups, batches, and errors in one sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from captioner.captioning.answers import Answer
from captioner.checkpoint import Checkpoint, save
from captioner.cli import main
from captioner.config import DecoderConfig
from captioner.errors import ImageError, UsageError
from captioner.inference import prepare
from captioner.models.captioner import Captioner
from captioner.pipelines import CaptionPipeline
from captioner.text import CaptionTokenizer


@pytest.fixture
def answering(checkpoint: Checkpoint) -> Checkpoint:
    """Return a random captioner that answers questions, with the vocabulary of the tests' captioner."""
    torch.manual_seed(0)
    config = checkpoint.config
    decoder = replace(config.decoder, self_pattern="G", cross_pattern="G", cross_gate=False, context=80)
    question = DecoderConfig(
        **{**vars(decoder), "causal": False, "head": "none", "memory_width": decoder.width + 4, "norm": "post"}
    )
    text = replace(config.text, question_id=config.text.pad_id)
    model = Captioner(replace(config, decoder=decoder, question=question, text=text, heads=None, labels=None)).eval()
    for parameter in model.parameters():  # far from flat, so that questions and photos change the answer
        if parameter.ndim > 1:
            parameter.data += torch.randn_like(parameter) * 0.4
    tokenizer = CaptionTokenizer(checkpoint.tokenizer.model, text)
    return Checkpoint(model, tokenizer, replace(checkpoint.generation, max_tokens=6))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    generator = torch.Generator().manual_seed(0)
    paths = [folder / f"{n}.png" for n in range(3)]
    for path in paths:
        pixels = torch.randint(0, 256, (40, 40, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(path)
    return paths


def key(answer: Answer) -> tuple[str, str, str]:
    """Return what two equal answers share; probabilities are sums, whose order depends on the batch."""
    return answer.question, answer.text, f"{answer.confidence:.3g}"


def test_one_question_has_one_answer(answering: Checkpoint, photos: list[Path]) -> None:
    pipe = CaptionPipeline(answering)
    answer = pipe.ask(photos[0], "a red circle?")
    assert isinstance(answer, Answer)
    assert answer.question == "a red circle?"
    assert str(answer) == answer.text
    assert 0 < answer.confidence <= 1
    assert pipe.ask(photos[0], ["a red circle?"]) == [answer]
    assert pipe.ask(photos[0], "a blue square") != answer


def test_a_question_may_refer_to_the_answer_and_to_a_caption(answering: Checkpoint, photos: list[Path]) -> None:
    pipe = CaptionPipeline(answering)
    first, second = pipe.ask(photos[0], ["a circle?", "{answer} of {caption}?"], caption="two squares")
    assert second.question == f"{first.text} of two squares?"
    assert second == pipe.ask(photos[0], second.question)


@pytest.mark.parametrize("precision", [None, "fp32", "int8"])
def test_company_changes_nothing(answering: Checkpoint, photos: list[Path], precision: Any) -> None:
    """Answers of different lengths make follow-ups of different lengths, which are read apart."""
    pipe = CaptionPipeline(answering if precision is None else prepare(answering, precision))
    questions = ["a circle?", "{answer} or {answer} blue?"]
    together = list(pipe.stream_answers([photos[0], "gone.png", *photos[1:]], questions, beams=2))
    assert isinstance(together.pop(1), ImageError)
    found = [list(map(key, answers)) for answers in together if isinstance(answers, list)]
    alone = [list(map(key, pipe.ask(photo, questions, beams=2))) for photo in photos]
    changed = sum(a != b for a, b in zip(found, alone, strict=True))
    assert changed <= (precision == "int8")  # a number near a half may round the other way
    assert len({answers[1].question for answers in together if isinstance(answers, list)}) > 1


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ([" "], "a question is empty"),
        (["{answer}?"], "the first question refers to {answer}"),
        (["a circle in {caption}?"], "there are no captions"),
        (["a circle " * 50], "has more than 78 tokens; ask a shorter one"),
    ],
)
def test_a_mistake_is_one_sentence(
    answering: Checkpoint, photos: list[Path], questions: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        CaptionPipeline(answering).ask(photos[0], questions)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beams": 3, "candidates": 3, "rerank": "matching"}, "answers are not reranked by matching; leave out rerank"),
        ({"name_sure_labels": 0.9}, "answers do not depend on labels; leave out name_sure_labels"),
        ({"label_weight": 0.2}, "answers do not depend on labels; leave out label_weight"),
    ],
)
def test_an_option_of_captions_alone_is_refused(answering: Checkpoint, options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CaptionPipeline(answering).ask("gone.png", "a circle?", **options)


def test_a_captioner_that_names_sure_labels_answers_too(answering: Checkpoint, photos: list[Path]) -> None:
    plain = CaptionPipeline(answering).ask(photos[0], "a circle?")
    naming = replace(answering, generation=replace(answering.generation, name_sure_labels=0.4))
    assert CaptionPipeline(naming).ask(photos[0], "a circle?") == plain
    assert CaptionPipeline(naming).ask(photos[0], "a circle?", name_sure_labels=0) == plain
    with pytest.raises(UsageError, match="leave out name_sure_labels"):
        CaptionPipeline(naming).ask(photos[0], "a circle?", name_sure_labels=0.3)


def test_too_few_captions(answering: Checkpoint, photos: list[Path]) -> None:
    answers = CaptionPipeline(answering).stream_answers(photos, ["{caption}?"], captions=["one"], batch_size=1)
    assert isinstance(next(answers), list)
    with pytest.raises(UsageError, match="fewer captions than images; give one caption per image"):
        next(answers)


def test_a_follow_up_that_becomes_too_long_costs_one_photo(answering: Checkpoint, photos: list[Path]) -> None:
    pipe = CaptionPipeline(answering)
    captions = ["a circle", "a circle " * 60, "a square"]
    found = list(pipe.stream_answers(photos, ["what is in {caption}?", "{answer}?"], captions=captions))
    assert [isinstance(answers, list) for answers in found] == [True, False, True]
    assert "has more than 78 tokens" in str(found[1])


def test_a_captioner_says_that_it_answers_no_questions(
    checkpoint: Checkpoint, answering: Checkpoint, photos: list[Path]
) -> None:
    with pytest.raises(UsageError, match="does not answer questions; load one that does"):
        CaptionPipeline(checkpoint).ask(photos[0], "a circle?")
    pipe = CaptionPipeline(answering)
    for call in (pipe.caption, pipe.explain, lambda photo: pipe.score(photo, "a circle")):
        with pytest.raises(UsageError, match="answers questions and does not caption; use `captioner ask`"):
            call(photos[0])


def test_the_command(
    answering: Checkpoint,
    learnt: Path,
    photos: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = str(save(answering, tmp_path / "answering"))
    paths = [str(photo) for photo in photos]
    assert main(["ask", "a circle?", *paths, "--model", model]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == paths
    pipe = CaptionPipeline(answering)
    assert [line.split("\t")[1] for line in lines] == [pipe.ask(path, "a circle?").text for path in paths]
    more = ["--then", "{answer} in {caption}?", "--captioner", str(learnt), "--batch-size", "2"]
    (tmp_path / "no.png").write_text("no photo")
    assert main(["ask", "a circle?", *paths, str(tmp_path / "no.png"), "--model", model, "--json", *more]) == 1
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["path"] for record in records[:3]] == paths
    assert "error" in records[3]
    for record in records[:3]:
        first, second = record["answers"]
        assert second["question"].startswith(first["answer"])
        assert " in a" in second["question"] or " in " in second["question"]
    assert main(["ask", "a circle?", paths[0], "--model", str(learnt)]) == 1
    assert "does not answer questions" in capsys.readouterr().err
