"""Answers to questions about photos, by a captioner with an encoder of questions (BLIP, Li et al. 2022, section 5.3).

Questions are asked in order, each by itself: a later one may refer to the answer before it as ``{answer}`` and to a
caption of the photo as ``{caption}``, which is all the dialogue that such a model holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captioner.captioning.batches import NOTHING_FITS, caption_memory, encode, in_batches, pixels_of
from captioner.config import GenerationConfig
from captioner.data.images import ImageSource
from captioner.errors import ImageError, UsageError
from captioner.generation.hypothesis import Hypothesis
from captioner.inference import AnyCheckpoint
from captioner.models.vision import EncodedImage
from captioner.text import CaptionTokenizer

ANSWER, CAPTION = "{answer}", "{caption}"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer, and the model's confidence in it.

    question: The question as it was asked, with what ``{answer}`` and ``{caption}`` stand for.
    text: The answer, mostly one to three words.
    confidence: Probability of the whole answer, 0 to 1, given photo and question.
    """

    question: str
    text: str
    confidence: float

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
    questions with ``{caption}``. Raises ``UsageError`` for an empty question, for one that refers to what is missing,
    and for a captioner that does not answer questions.
    """
    require_questions(checkpoint)
    _check(questions, captions)
    beside = iter(captions) if captions is not None else None
    for batch in in_batches(pixels_of(checkpoint, images, batch_size), batch_size):
        told = ["" if beside is None else next(beside) for _ in batch]
        good = [place for place, image in enumerate(batch) if isinstance(image, Tensor)]
        pixels = [image for image in batch if isinstance(image, Tensor)]
        dialogues = iter(_dialogues(checkpoint, pixels, questions, config, [told[place] for place in good]))
        for image in batch:
            yield image if isinstance(image, ImageError) else next(dialogues)


def _check(questions: Sequence[str], captions: Iterable[str] | None) -> None:
    for place, question in enumerate(questions):
        if not question.strip():
            raise UsageError("a question is empty; ask something")
        if place == 0 and ANSWER in question:
            raise UsageError(f"the first question refers to {ANSWER}, but there is none yet; ask another one first")
        if captions is None and CAPTION in question:
            raise UsageError(f"a question refers to {CAPTION}, but there are no captions; give them too")


@torch.inference_mode()
def _dialogues(
    checkpoint: AnyCheckpoint,
    pixels: list[Tensor],
    questions: Sequence[str],
    config: GenerationConfig,
    captions: Sequence[str],
) -> list[list[Answer] | ImageError]:
    """Return the answers about B images; an error for one whose rules allow no answer."""
    if not pixels:
        return []
    encoded = encode(checkpoint, pixels)
    dialogues: list[list[Answer]] = [[] for _ in pixels]
    failed: set[int] = set()
    for question in questions:
        asked = [
            question.replace(CAPTION, caption).replace(ANSWER, answers[-1].text if answers else "")
            for caption, answers in zip(captions, dialogues, strict=True)
        ]
        for place, found in enumerate(_answers(checkpoint, encoded, pixels, asked, config)):
            if not found:
                failed.add(place)
                dialogues[place].append(Answer(question=asked[place], text="", confidence=0.0))
                continue
            text = checkpoint.tokenizer.decode(found[0].tokens)
            confidence = math.exp(found[0].log_prob)
            dialogues[place].append(Answer(question=asked[place], text=text, confidence=confidence))
    return [ImageError(NOTHING_FITS) if place in failed else answers for place, answers in enumerate(dialogues)]


def _answers(
    checkpoint: AnyCheckpoint,
    encoded: EncodedImage,
    pixels: Sequence[Tensor],
    asked: Sequence[str],
    config: GenerationConfig,
) -> list[list[Hypothesis]]:
    """Return the answers of B images to one question each; questions of one length are read together."""
    model, device = checkpoint.model, encoded.tokens.device
    ids = [question_ids(checkpoint.tokenizer, question, _longest(checkpoint)) for question in asked]
    found: list[list[Hypothesis]] = [[] for _ in asked]
    for length in sorted({len(tokens) for tokens in ids}):
        places = [place for place, tokens in enumerate(ids) if len(tokens) == length]
        images = replace(encoded, tokens=encoded.tokens[places])
        read = model.encode_question(images, torch.tensor([ids[place] for place in places], device=device))
        memory = model.decoder.remember(read)
        for place, captions in zip(
            places, caption_memory(checkpoint, memory, [pixels[p] for p in places], config), strict=True
        ):
            found[place] = captions
    return found


def question_ids(tokenizer: CaptionTokenizer, question: str, most: int) -> list[int]:
    """Return the token ids of a question with its start and end.

    Raises ``UsageError`` for one of more than ``most`` tokens.
    """
    text = tokenizer.config
    assert text.question_id is not None
    ids = [text.question_id, *tokenizer.encode(question), text.eos_id]
    if len(ids) > most:
        raise UsageError(f"the question {question[:40]!r} has more than {most - 2} tokens; ask a shorter one")
    return ids


def _longest(checkpoint: AnyCheckpoint) -> int:
    assert checkpoint.config.question is not None
    return checkpoint.config.question.context
