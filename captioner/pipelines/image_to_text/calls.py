"""The removed pipeline's interface: the same inputs, the same outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, overload

from captioner.captioning.captions import Caption
from captioner.errors import ImageError, UsageError, unwrap
from captioner.pipelines import CaptionPipeline
from captioner.pipelines.image_to_text.inputs import Given, Indexed, each, image_of, is_one
from captioner.pipelines.image_to_text.options import Options, asked, translated

if TYPE_CHECKING:
    import torch
    from typing_extensions import Unpack

Record: TypeAlias = dict[str, str]
"""``{"generated_text": ...}``."""
MANY = 16  # default batch size of lists and datasets


class Calls(TypedDict, total=False):
    """The keyword arguments of a call."""

    images: Any  # an older name of ``inputs``
    prompt: str | None  # the beginning of every caption
    max_new_tokens: int | None  # an option of ``generate``
    generate_kwargs: Mapping[str, Any] | None  # options of ``generate``, listed in ``options.py``
    batch_size: int | None  # images per batch
    num_workers: int | None  # ignored: photos are always loaded in threads
    timeout: float | None  # seconds per URL


class ImageToTextPipeline:
    """A pipeline from images to ``[{"generated_text": ...}]``, around the ``CaptionPipeline`` ``pipe``.

        pipe = captioner.pipeline("image-to-text")
        pipe("photo.jpg")  # [{"generated_text": "a dog on a beach"}]
        pipe(["a.jpg", "b.jpg"], batch_size=2)  # one such list per image

    The constructor's options are the defaults of every call.
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
        """The model's device."""
        return next(self.pipe.checkpoint.model.parameters()).device

    @overload
    def __call__(  # type: ignore[overload-overlap]  # an array is iterable too, but it is one image
        self, inputs: Given, **options: Unpack[Calls]
    ) -> list[Record]: ...

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a list is an iterable too
        self, inputs: list[Any] | tuple[Any, ...], **options: Unpack[Calls]
    ) -> list[list[Record]]: ...

    @overload
    def __call__(self, inputs: Iterable[Any] | Indexed, **options: Unpack[Calls]) -> Captions: ...

    @overload
    def __call__(self, **options: Unpack[Calls]) -> Any: ...

    def __call__(self, inputs: Any = None, **options: Any) -> Any:
        """Caption one image; a list gives a list of results, a generator or dataset an iterator over results.

        An image is a path, an http(s) URL, a PIL image, base64 (also as a data URL), bytes, an open binary file, an
        array or a tensor; a row of a dataset stands for its ``image``. Raises ``UsageError`` for options without a
        counterpart, ``ImageError`` for an unreadable image.
        """
        inputs = options.pop("images", inputs)
        if inputs is None:
            raise UsageError("no images to caption; give images as the first argument")
        for name in options:
            if name not in Calls.__annotations__:
                raise UsageError(
                    f"the pipeline has no option {name!r}; choose among {', '.join(Calls.__annotations__)}, and put "
                    "options of generate into generate_kwargs"
                )
        call = {key: value for key, value in options.items() if value is not None}
        batch_size, timeout = call.get("batch_size", self._batch_size), call.get("timeout", self._timeout)
        translation = translated(
            {**self._asked, **asked(call.get("max_new_tokens"), call.get("generate_kwargs"))},
            self.pipe.checkpoint.tokenizer,
            call.get("prompt", self._prompt),
        )
        if is_one(inputs):
            return next(self._records([image_of(inputs, timeout)], translation, 1))
        if isinstance(inputs, (list, tuple)):
            images = (image_of(image, timeout) for image in inputs)
            return list(self._records(images, translation, MANY if batch_size is None else batch_size))
        self._records([], translation, MANY if batch_size is None else batch_size)  # raises for invalid options
        return Captions(self, inputs, translation, batch_size, timeout)

    def _records(self, images: Iterable[Any], options: Options, batch_size: int) -> Iterator[list[Record]]:
        stream = self.pipe.stream(images, count=options.count, batch_size=batch_size, **options.named)
        return (_record(result) for result in stream)


class Captions(Iterator[list[Record]]):
    """A lazy iterator over the captions of a dataset or generator; it has a length if the dataset has one.

    ``iter`` starts a dataset again. Without a batch size, it takes an image from a generator only when the caller
    requests its caption.
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
        each(inputs)  # raises for inputs that are not iterable
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


def _record(result: Caption | ImageError) -> list[Record]:
    best = unwrap(result)
    return [{"generated_text": caption.text} for caption in (best, *best.alternatives)]
