"""Answers to questions about photos, by a captioner with an encoder of questions (BLIP, Li et al. 2022, section 5.3).

Such a model keeps no dialogue: it answers each question by itself, in order. A question may contain ``{answer}``, the
previous answer, and ``{caption}``, a caption of the photo.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from captioner.captioning import labels
from captioner.captioning.batches import NOTHING_FITS, caption_memory, encode, in_batches, pixels_of
from captioner.config import GenerationConfig
from captioner.data.images import ImageSource
from captioner.errors import ImageError, UsageError
from captioner.generation.hypothesis import Hypothesis
from captioner.inference import AnyCheckpoint
from captioner.models.vision import EncodedImage

ANSWER, CAPTION = "{answer}", "{caption}"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer, and the model's confidence in it.

    question: The question, with ``{answer}`` and ``{caption}`` replaced.
    text: The answer, mostly one to three words.
    confidence: Probability of the whole answer, 0 to 1, given photo and question.
    unsure: True if the confidence is below the option ``unsure``.
    """

    question: str
    text: str
    confidence: float
    unsure: bool = False

    def __str__(self) -> str:
        return self.text


def require_questions(checkpoint: AnyCheckpoint) -> None:
    """Raise ``UsageError`` for a captioner that does not answer questions."""
    if checkpoint.config.question is None:
        raise UsageError(
            "this captioner does not answer questions; load one that does, such as Salesforce/blip-vqa-base"
        )


def answer_questions(
    checkpoint: AnyCheckpoint,
    images: Iterable[ImageSource | ImageError],
    questions: Sequence[str],
    config: GenerationConfig,
    *,
    captions: Iterable[str] | None = None,
    batch_size: int = 16,
) -> Iterator[list[Answer] | ImageError]:
    """Yield the answers to ``questions`` about each image, in order, or its error.

    Each photo is encoded once, and its answers do not depend on other photos. ``captions``: one per image, for
    questions with ``{caption}``. Raises ``UsageError`` for an empty question, for one that refers to a missing answer
    or caption, for an option that answers do not have, and for a captioner that does not answer questions; the
    iterator raises it for fewer captions than images.
    """
    require_questions(checkpoint)
    if config.rerank == "matching":
        raise UsageError("answers are not reranked by matching; leave out rerank, or choose another one")
    for option in labels.OPTIONS:
        if getattr(config, option) not in (0, getattr(checkpoint.generation, option)):  # its own is for captions
            raise UsageError(f"answers do not depend on labels; leave out {option}")
    _check(checkpoint, questions, captions)
    return _stream(checkpoint, images, questions, config, captions=captions, batch_size=batch_size)


def _stream(
    checkpoint: AnyCheckpoint,
    images: Iterable[ImageSource | ImageError],
    questions: Sequence[str],
    config: GenerationConfig,
    *,
    captions: Iterable[str] | None,
    batch_size: int,
) -> Iterator[list[Answer] | ImageError]:
    remaining = iter(captions) if captions is not None else None
    for batch in in_batches(pixels_of(checkpoint, images, batch_size), batch_size):
        texts = [""] * len(batch) if remaining is None else list(islice(remaining, len(batch)))
        if len(texts) < len(batch):
            raise UsageError("there are fewer captions than images; give one caption per image")
        good = [place for place, image in enumerate(batch) if isinstance(image, Tensor)]
        pixels = [image for image in batch if isinstance(image, Tensor)]
        dialogues = iter(_dialogues(checkpoint, pixels, questions, config, [texts[place] for place in good]))
        for image in batch:
            yield image if isinstance(image, ImageError) else next(dialogues)


def _check(checkpoint: AnyCheckpoint, questions: Sequence[str], captions: Iterable[str] | None) -> None:
    for place, question in enumerate(questions):
        if not question.strip():
            raise UsageError("a question is empty; ask something")
        if place == 0 and ANSWER in question:
            raise UsageError(f"the first question refers to {ANSWER}, but there is none yet; ask another one first")
        if captions is None and CAPTION in question:
            raise UsageError(f"a question refers to {CAPTION}, but there are no captions; give them too")
        question_ids(checkpoint, question.replace(ANSWER, "").replace(CAPTION, ""))


@torch.inference_mode()
def _dialogues(
    checkpoint: AnyCheckpoint,
    pixels: list[Tensor],
    questions: Sequence[str],
    config: GenerationConfig,
    captions: Sequence[str],
) -> list[list[Answer] | ImageError]:
    """Return the answers about B images, and an error for one that got no answer."""
    if not pixels:
        return []
    encoded = encode(checkpoint, pixels)
    dialogues: list[list[Answer] | ImageError] = [[] for _ in pixels]
    for question in questions:
        asked: dict[int, str] = {}
        for place, answers in enumerate(dialogues):
            if isinstance(answers, list):
                last = answers[-1].text if answers else ""
                asked[place] = question.replace(CAPTION, captions[place]).replace(ANSWER, last)
        for place, result in _answers(checkpoint, encoded, pixels, asked, config).items():
            answers = dialogues[place]
            if isinstance(result, ImageError):
                dialogues[place] = result
            elif isinstance(answers, list):
                answers.append(result)
    return dialogues


def _answers(
    checkpoint: AnyCheckpoint,
    encoded: EncodedImage,
    pixels: Sequence[Tensor],
    asked: Mapping[int, str],
    config: GenerationConfig,
) -> dict[int, Answer | ImageError]:
    """Return the answers to one question about each of some images, by the images' places.

    The model reads questions of one length together. A question that becomes too long with its answer or caption is an
    error of its image.
    """
    model, device = checkpoint.model, encoded.tokens.device
    found: dict[int, Answer | ImageError] = {}
    ids: dict[int, list[int]] = {}
    for place, question in asked.items():
        try:
            ids[place] = question_ids(checkpoint, question)
        except UsageError as error:
            found[place] = ImageError(str(error))
    for length in sorted({len(tokens) for tokens in ids.values()}):
        places = [place for place, tokens in ids.items() if len(tokens) == length]
        images = replace(encoded, tokens=encoded.tokens[places])
        read = model.encode_question(images, torch.tensor([ids[place] for place in places], device=device))
        memory = model.decoder.remember(read)
        written = caption_memory(checkpoint, memory, [pixels[place] for place in places], config)
        for place, hypotheses in zip(places, written, strict=True):
            found[place] = _answer(checkpoint, asked[place], hypotheses, config.unsure)
    return found


def _answer(
    checkpoint: AnyCheckpoint, question: str, found: Sequence[Hypothesis], unsure: float
) -> Answer | ImageError:
    if not found:
        return ImageError(NOTHING_FITS)
    text = checkpoint.tokenizer.decode(found[0].tokens)
    confidence = math.exp(found[0].log_prob)
    return Answer(question=question, text=text, confidence=confidence, unsure=confidence < unsure)


def question_ids(checkpoint: AnyCheckpoint, question: str) -> list[int]:
    """Return the token ids of a question with its start and end.

    Raises ``UsageError`` for a question that is longer than the encoder's context.
    """
    text, encoder = checkpoint.config.text, checkpoint.config.question
    assert encoder is not None
    assert text.question_id is not None
    ids = [text.question_id, *checkpoint.tokenizer.encode(question), text.eos_id]
    if len(ids) > encoder.context:
        shown = question if len(question) <= 40 else f"{question[:40]}..."
        raise UsageError(f"the question {shown!r} has more than {encoder.context - 2} tokens; ask a shorter one")
    return ids
