"""A loader that reads items ahead of the loop in worker processes and reports their failures as one sentence."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from captioner.data.images import open_image
from captioner.data.samples import Sample
from captioner.errors import CaptionerError, ImageError, TrainingError


def open_training_image(sample: Sample) -> Image.Image:
    """Return the photo of a sample. Raises ``ImageError`` with the remedy for a training run."""
    try:
        return open_image(sample.image())
    except ImageError as error:
        raise ImageError(f"{error}; repair it or remove it from the training data") from error


class _ErrorsAsItems(Dataset[Any]):
    """A dataset that returns a ``CaptionerError`` in place of the item that raised it.

    torch reraises a worker's exception with its traceback as the message; an error returned as an item stays one
    sentence.
    """

    def __init__(self, items: Dataset[Any]) -> None:
        self.items = items

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.items[key]
        except CaptionerError as error:
            return error


class _CollateWithErrors:
    def __init__(self, collate: Callable[[Sequence[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, items: Sequence[Any]) -> Any:
        return next((item for item in items if isinstance(item, CaptionerError)), None) or self.collate(items)


def load_ahead(
    items: Dataset[Any], keys: Iterable[Sequence[Any]], collate: Callable[[Sequence[Any]], Any], *, workers: int
) -> Iterator[Any]:
    """Yield ``collate([items[key], ...])`` for each list of ``keys``, in order; ``workers`` 0 loads in this process.

    Raises the ``CaptionerError`` of an item, and ``TrainingError`` when a worker dies.
    """
    loader: DataLoader[Any] = DataLoader(
        _ErrorsAsItems(items),
        batch_sampler=keys,  # type: ignore[arg-type]
        collate_fn=_CollateWithErrors(collate),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=4 if workers else None,
        worker_init_fn=_ignore_interrupt,
        generator=torch.Generator(),  # else the loader draws from the run's random numbers
    )
    try:
        for batch in loader:
            if isinstance(batch, CaptionerError):
                raise batch
            yield batch
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise TrainingError(
            f"a process that loads images has died ({error}), most often because memory ran out; use --set workers=0 "
            "or a smaller batch_size"
        ) from error


def _ignore_interrupt(worker: int) -> None:
    """Ignore Ctrl-C, which reaches every process of the terminal: the loop handles it and ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
