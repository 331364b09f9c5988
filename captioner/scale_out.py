"""Captioning on many machines, through Ray Data: a dataset of images in, the same rows with captions out.

Ray moves the rows, holds pools of workers that each load the model once, starts a lost worker again and gives it the
rows it had. So every input has one row in the end: its caption, or the reason why there is none.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.allocation import keep_freed_memory
from captioner.config import GenerationConfig, with_options
from captioner.data.leftout import LeftOut
from captioner.data.paths import is_archive_name, shown
from captioner.data.urls import is_url
from captioner.errors import CaptionerError, ImageError, MissingExtraError, UsageError, reason_of
from captioner.files import find
from captioner.image_to_text.inputs import image_of
from captioner.pipelines import CaptionPipeline, GenerationOptions, load

if TYPE_CHECKING:
    from ray.data import Dataset
    from typing_extensions import Unpack

    from captioner.data.connections import Reach
    from captioner.layers.linears import Precision

COLUMNS = ("image", "bytes", "jpg", "jpeg", "png", "webp", "path", "url")
"""Where a row's image is looked for, the first that is there: as bytes, in a WebDataset's names, or by its name."""
ROWS = 64  # of a block of named files: so many are captioned anew where a worker is lost


def connect(address: str) -> None:
    """Join a Ray cluster: ``auto``, ``host:port``, or ``local`` for one of this machine's cores.

    Raises ``MissingExtraError`` without Ray, ``UsageError`` where no cluster answers.
    """
    ray = _ray()
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = sys.stderr.isatty()
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself would go on trying for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        if not ray.is_initialized():
            ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level="warning")
    except Exception as error:  # Ray raises ConnectionError, ValueError, RuntimeError ... by kind of address
        raise UsageError(
            f"no Ray cluster answers at {address!r} ({reason_of(error)}); start one, or say local"
        ) from error


def read(names: Iterable[str], left: LeftOut | None = None) -> Dataset:
    """The images that ``names`` name, as a dataset to caption; a name that is no image is a row too.

    Parquet and tar files (WebDataset) are read by the workers. Of folders, patterns and single files the names alone
    are collected here; the workers read them, so they must lie where all workers see them. ``left`` as ``find_items``
    takes it. Raises ``UsageError`` for
    kinds of input that make no one dataset, for a name that is not UTF-8, and where there is nothing.
    """
    given = list(names)
    for suffix, reader in ((".parquet", _parquet), (".tar", _shards)):
        of_kind = [name for name in given if str(name).endswith(suffix)]
        if of_kind and len(of_kind) < len(given):
            raise UsageError(f"{suffix} files are captioned by themselves; name other images in another run")
        if of_kind:
            return reader(of_kind)
    return _files(given, left)


def caption_dataset(
    ds: Dataset,
    *,
    model: str | os.PathLike[str] | None = None,
    column: str | None = None,
    workers: int | tuple[int, int] | None = None,
    cpus: float = 1.0,
    gpus: float | None = None,
    batch_size: int = 16,
    precision: Precision = "fp32",
    keep_images: bool = False,
    allow_private: bool = False,
    **options: Unpack[GenerationOptions],
) -> Dataset:
    """The rows of a Ray dataset with ``caption``, ``score`` and ``error``: as many as there were, in any order.

    ``column`` holds the images (paths, URLs, file contents, or ``datasets``' pairs of both), else the first of
    ``COLUMNS`` that a row has. Columns of contents are left out unless ``keep_images``. ``workers`` of ``cpus`` cores
    and ``gpus`` GPUs each (one, if the cluster has any) load ``model``, which all of them must find; a pair of numbers
    lets the pool grow. Left out, they take all GPUs, or all cores but one, which reads. ``options`` are those of
    ``CaptionPipeline.caption``. URLs lead to the public internet alone unless ``allow_private``. Nothing is done
    before the dataset is consumed. Raises ``UsageError``, ``ConfigError`` and ``CheckpointError`` here for what every
    worker would stumble over.
    """
    ray = _ray()
    directory = find(model)
    with_options(GenerationConfig(max_tokens=1 << 30), options)
    if batch_size < 1 or not 0 < cpus < math.inf:
        raise UsageError("a worker needs at least one image at once, and more than 0 cores")
    have: Mapping[str, float] = ray.cluster_resources()
    if gpus is None:
        gpus = 1.0 if have.get("GPU", 0) >= 1 else 0.0
    if workers is None:
        free = have.get("GPU", 0) / gpus if gpus else (have.get("CPU", 1) - 1) / cpus
        workers = max(1, int(free))
    pool = _pool(workers)
    return ds.map_batches(
        _Worker,
        batch_size=batch_size,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=pool,
        num_cpus=cpus,
        num_gpus=gpus,
        fn_constructor_kwargs={
            "model": os.fspath(model if model is not None and not Path(model).exists() else directory.resolve()),
            "device": "cuda" if gpus else "cpu",
            "threads": max(1, int(cpus)),
            "precision": precision,
            "column": column,
            "keep_images": keep_images,
            "reach": "private" if allow_private else "public",
            "options": options,
        },
    )


def write(ds: Dataset, out: str | os.PathLike[str], kind: str) -> None:
    """Write rows as ``parquet`` or ``jsonl``, a folder of files, which must be where all workers see it.

    Raises ``UsageError`` for a folder that holds files already: rows of two runs would be twice there.
    """
    if kind not in ("parquet", "jsonl"):
        raise UsageError(f"with Ray, captions are written as parquet or jsonl, not {kind!r}")
    if (os.path.isdir(out) and any(os.scandir(out))) or os.path.isfile(out):
        raise UsageError(f"{os.fspath(out)} is there already; name a new folder")
    place = os.fspath(out) if "://" in os.fspath(out) else os.path.abspath(out)
    with plain_errors():
        ds.write_parquet(place) if kind == "parquet" else ds.write_json(place)


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """What went wrong at a worker is raised as it was there, where it is a ``CaptionerError``."""
    try:
        yield
    except Exception as error:  # Ray carries over what it said, not what it was
        said = re.findall(r"^captioner\.errors\.\w+: (.+)$", str(error), re.MULTILINE)
        if not said:
            raise
        raise CaptionerError(said[-1]) from None


class _Worker:
    """One of the pool: a model, and what it makes of the tables that it is given."""

    def __init__(self, *, threads: int, model: str, device: str, precision: Precision, **settings: Any) -> None:
        import torch

        keep_freed_memory()
        torch.set_num_threads(threads)
        self.pipe: CaptionPipeline = load(model, device=device, precision=precision)
        self.settings = settings

    def __call__(self, table: Any) -> Any:
        """A pyarrow table -> it without its images, with their captions."""
        import pyarrow as pa

        column = self.settings["column"]
        there = [name for name in ([column] if column else COLUMNS) if name in table.column_names]
        rows = table.select(there).to_pylist()
        columns, reach = column or ", ".join(COLUMNS), self.settings["reach"]
        images = [_image([row[name] for name in there], columns, reach) for row in rows]
        found = list(self.pipe.stream(images, batch_size=len(images) or 1, **self.settings["options"]))
        good = [None if isinstance(caption, ImageError) else caption for caption in found]
        bulky = [name for name in there if pa.types.is_nested(kind := table.schema.field(name).type) or _binary(kind)]
        for name in ("caption", "score", "error", *([] if self.settings["keep_images"] else bulky)):
            if name in table.column_names:
                table = table.drop([name])
        errors = [str(error) if isinstance(error, ImageError) else None for error in found]
        table = table.append_column("caption", pa.array([c.text if c else None for c in good], pa.string()))
        table = table.append_column("score", pa.array([c.score if c else None for c in good], pa.float64()))
        return table.append_column("error", pa.array(errors, pa.string()))


def _image(values: list[Any], columns: str, reach: Reach) -> Any:
    given = next((value for value in values if value is not None), None)
    if given is None:
        return ImageError(f"the row has no image in {columns}")
    try:
        return image_of(given, reach=reach)
    except UsageError as error:
        return ImageError(str(error))


def _binary(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("ray", "ray", "captioning on many machines") from error
    return ray


def _pool(workers: int | tuple[int, int]) -> Any:
    from ray.data import ActorPoolStrategy

    least, most = (workers, workers) if isinstance(workers, int) else workers
    if not 1 <= least <= most:
        raise UsageError(f"workers must be 1 or more, or a pair from few to many, not {workers!r}")
    # Few tasks wait at a worker: what waits there is captioned anew with what it had begun when it is lost.
    return ActorPoolStrategy(min_size=least, max_size=most, max_tasks_in_flight_per_actor=2)


def _parquet(names: list[str]) -> Dataset:
    from ray.data import read_parquet

    return read_parquet(names)


def _shards(names: list[str]) -> Dataset:
    from ray.data import read_webdataset

    return read_webdataset(names, decoder=None)


def _files(names: list[str], left: LeftOut | None) -> Dataset:
    from ray.data import from_items

    from captioner.data.find import find_items

    found: list[str] = []
    for item in find_items(names, left=left):  # what is no image, too: its row will say why
        archive = item.id.partition("!/")[0]
        if archive != item.id and is_archive_name(archive):
            raise UsageError(f"{shown(archive)} is no tar of a WebDataset; unpack it, or caption it without Ray")
        found.append(item.id if is_url(item.id) else os.path.abspath(item.id))
        try:
            item.id.encode()
        except UnicodeEncodeError:
            raise UsageError(f"the name {shown(item.id)} is not UTF-8 and cannot be sent; rename it") from None
    if not found:
        raise UsageError("there are no images to caption; name files, folders, Parquet or tar files")
    return from_items([{"path": name} for name in found], override_num_blocks=max(1, -(-len(found) // ROWS)))
