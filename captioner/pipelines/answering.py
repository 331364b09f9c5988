"""The part of the pipeline that answers questions about photos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, overload

from captioner.captioning.answers import Answer, answer_questions
from captioner.captioning.captions import GenerationOptions
from captioner.config import with_options
from captioner.data.images import ImageSource
from captioner.errors import ImageError, UsageError, unwrap
from captioner.inference import AnyCheckpoint

if TYPE_CHECKING:
    from typing_extensions import Unpack


class QuestionAnsweringMixin:
    """The answers of a pipeline whose model answers questions, such as Salesforce/blip-vqa-base.

        pipe = captioner.load("Salesforce/blip-vqa-base")
        pipe.ask("photo.jpg", "how many dogs are there?").text
        for answer in pipe.ask("photo.jpg", ["what is it?", "what colour is the {answer}?"]):
            print(answer.question, answer, answer.confidence)

    Of several questions, a later one may refer to the answer before it as ``{answer}``, and to ``caption``, the photo's
    caption by another captioner, as ``{caption}``.
    """

    checkpoint: AnyCheckpoint

    @overload
    def ask(
        self, image: ImageSource, question: str, *, caption: str | None = None, **options: Unpack[GenerationOptions]
    ) -> Answer: ...

    @overload
    def ask(
        self,
        image: ImageSource,
        question: list[str],
        *,
        caption: str | None = None,
        **options: Unpack[GenerationOptions],
    ) -> list[Answer]: ...

    def ask(
        self,
        image: ImageSource,
        question: str | list[str],
        *,
        caption: str | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Answer | list[Answer]:
        """Answer one question about an image, or several in order.

        Raises ``UsageError`` for a captioner that does not answer questions, and for a question that is empty, too
        long, or refers to a missing answer or caption; ``ImageError`` for an unreadable image.
        """
        questions = question if isinstance(question, list) else [question]
        captions = None if caption is None else [caption]
        answers = unwrap(next(self.stream_answers([image], questions, captions=captions, **options)))
        return answers if isinstance(question, list) else answers[0]

    def stream_answers(
        self,
        images: Iterable[ImageSource | ImageError],
        questions: Sequence[str],
        *,
        captions: Iterable[str] | None = None,
        batch_size: int = 16,
        **options: Unpack[GenerationOptions],
    ) -> Iterator[list[Answer] | ImageError]:
        """Yield the answers to ``questions`` about each image, in order, or its error; ``captions`` are one per image.

        Raises ``UsageError`` as ``ask`` does.
        """
        if batch_size < 1:
            raise UsageError(f"the batch size must be at least 1, not {batch_size}")
        config = with_options(self.checkpoint.generation, options)
        return answer_questions(self.checkpoint, images, questions, config, captions=captions, batch_size=batch_size)
