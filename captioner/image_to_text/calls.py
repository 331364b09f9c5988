"""Images in as the removed pipeline took them, captions out as it gave them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, overload

from captioner.captions import Caption
from captioner.errors import ImageError, UsageError, raised
from captioner.image_to_text.inputs import Given, Indexed, each, image_of, is_one
from captioner.image_to_text.options import Options, asked, translated
from captioner.pipelines import CaptionPipeline

if TYPE_CHECKING:
    import torch
    from typing_extensions import Unpack

Record: TypeAlias = dict[str, str]
"""``{"generated_text": ...}``."""
MANY = 16  # images at once where all are there already and nobody says how many


class Calls(TypedDict, total=False):
    """What a call takes by name.

    ``prompt`` begins every caption. ``generate_kwargs`` are options of ``generate`` (``options.py`` has the table),
    ``max_new_tokens`` one of them. ``batch_size`` images go at once. ``timeout`` seconds may an address take.
    ``num_workers`` changes nothing: photos are read in threads of their own. ``images``: an older name of the inputs.
    """

    images: Any
    prompt: str | None
    max_new_tokens: int | None
    generate_kwargs: Mapping[str, Any] | None
    batch_size: int | None
    num_workers: int | None
    timeout: float | None


class ImageToTextPipeline:
    """Images in, ``[{"generated_text": ...}]`` out. ``pipe`` is the ``CaptionPipeline`` that does it.

    What is given here holds for every call that does not say otherwise.
    """

    task = "image-to-text"

    def __init__(
        self,
        pipe: CaptionPipeline,
        *,
        batch_size: int | None = None,
        max_new_tokens: int | None = None,
        generate_kwargs: Mapping[str, Any] | None = None,
        prompt: str | None = None,
        timeout: float | None = None,
    ) -> None:
        self.pipe = pipe
        self._asked = asked(max_new_tokens, generate_kwargs)
        self._batch_size, self._prompt, self._timeout = batch_size, prompt, timeout

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.pipe.checkpoint.model.parameters()).device

    @overload
    def __call__(  # type: ignore[overload-overlap]  # an array is an iterable too, and meant as one image
        self, inputs: Given, **options: Unpack[Calls]
    ) -> list[Record]: ...

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a list is an iterable too, and meant as a list
        self, inputs: list[Any] | tuple[Any, ...], **options: Unpack[Calls]
    ) -> list[list[Record]]: ...

    @overload
    def __call__(self, inputs: Iterable[Any] | Indexed, **options: Unpack[Calls]) -> Captions: ...

    @overload
    def __call__(self, **options: Unpack[Calls]) -> Any: ...

    def __call__(self, inputs: Any = None, **options: Any) -> Any:
        """The captions of one image; of a list, a list of that; of a generator or dataset, an iterator over that.

        An image is a path, an http(s) URL, a PIL image, base64 (a data URL too), bytes, an open binary file, or an
        array or tensor of one; a row of a dataset stands for its ``image``. Raises ``UsageError`` for what has no
        counterpart, ``ImageError`` for an image that cannot be read.
        """
        inputs = options.pop("images", inputs)
        if inputs is None:
            raise UsageError("there is nothing to caption; give images as the first argument")
        for name in options:
            if name not in Calls.__annotations__:
                raise UsageError(
                    f"the pipeline has no option {name!r}; there are {', '.join(Calls.__annotations__)}, and options "
                    "of generate go into generate_kwargs"
                )
        given = {key: value for key, value in options.items() if value is not None}
        batch_size, timeout = given.get("batch_size", self._batch_size), given.get("timeout", self._timeout)
        found = translated(
            {**self._asked, **asked(given.get("max_new_tokens"), given.get("generate_kwargs"))},
            self.pipe.checkpoint.tokenizer,
            given.get("prompt", self._prompt),
        )
        if is_one(inputs):
            return next(self._records([image_of(inputs, timeout)], found, 1))
        if isinstance(inputs, (list, tuple)):
            images = (image_of(image, timeout) for image in inputs)
            return list(self._records(images, found, MANY if batch_size is None else batch_size))
        self._records([], found, MANY if batch_size is None else batch_size)  # options that cannot be are said now
        return Captions(self, inputs, found, batch_size, timeout)

    def _records(self, images: Iterable[Any], options: Options, batch_size: int) -> Iterator[list[Record]]:
        stream = self.pipe.stream(images, count=options.count, batch_size=batch_size, **options.named)
        return (_record(found) for found in stream)


class Captions(Iterator[list[Record]]):
    """The captions of a dataset or generator, made as they are asked for; of the length of the dataset if it has one.

    Begun again, it goes through a dataset once more. A generator is asked for an image when its caption is wanted, and
    not before, unless a batch size is given.
    """

    def __init__(
        self,
        pipeline: ImageToTextPipeline,
        inputs: Iterable[Any] | Indexed,
        options: Options,
        batch_size: int | None,
        timeout: float | None,
    ) -> None:
        self._pipeline, self._inputs, self._options = pipeline, inputs, options
        self._batch_size, self._timeout = batch_size, timeout
        each(inputs)  # says what cannot be gone through
        self._running = self._run()

    def _run(self) -> Iterator[list[Record]]:
        images = (image_of(image, self._timeout) for image in each(self._inputs))
        if self._batch_size is None and isinstance(self._inputs, Iterator):
            for image in images:
                yield from self._pipeline._records([image], self._options, 1)
        else:
            size = MANY if self._batch_size is None else self._batch_size
            yield from self._pipeline._records(images, self._options, size)

    def __iter__(self) -> Iterator[list[Record]]:
        return self if isinstance(self._inputs, Iterator) else self._run()

    def __next__(self) -> list[Record]:
        return next(self._running)

    def __len__(self) -> int:
        return len(self._inputs)  # type: ignore[arg-type]


def _record(found: Caption | ImageError) -> list[Record]:
    best = raised(found)
    return [{"generated_text": caption.text} for caption in (best, *best.alternatives)]
