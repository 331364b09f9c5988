"""Captioning on many machines with Ray Data: a dataset of images in, the same rows with captions out.

Ray distributes the rows to a pool of workers that each load the model once. It restarts a lost worker and repeats its
rows, so every input ends up with one row: its caption or its error.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.checkpoint.locate import find
from captioner.config import GenerationConfig, with_options
from captioner.data.leftout import LeftOut
from captioner.data.paths import is_archive_name, is_video_name, shown
from captioner.data.urls import is_url
from captioner.errors import CaptionerError, ImageError, UsageError
from captioner.pipelines import CaptionPipeline, GenerationOptions, load
from captioner.pipelines.image_to_text.inputs import image_of
from captioner.system import cluster
from captioner.system.allocation import keep_freed_memory
from captioner.system.cluster import ray_module

if TYPE_CHECKING:
    from ray.data import Dataset
    from typing_extensions import Unpack

    from captioner.data.connections import Reach
    from captioner.inference import Precision

COLUMNS = ("image", "bytes", "jpg", "jpeg", "png", "webp", "path", "url")
"""Columns searched for a row's image, the first one present wins: bytes, WebDataset names, or a path or URL."""
_PURPOSE = "captioning on many machines"
ROWS = 64  # files per block; a lost worker repeats up to this many


def connect(address: str) -> None:
    """Connect to a Ray cluster: ``auto``, ``host:port``, or ``local`` to start one on this machine's cores.

    Raises ``MissingExtraError`` without Ray, ``UsageError`` if no cluster answers.
    """
    ray_data = _ray().data
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ray_data.DataContext.get_current().enable_progress_bars = sys.stderr.isatty()
    cluster.connect(address, _PURPOSE)


def read(names: Iterable[str], left: LeftOut | None = None) -> Dataset:
    """Return the images that ``names`` match as a dataset to caption; files that are not images become rows too.

    The workers read Parquet and tar files (WebDataset). For folders, patterns and single files, this function lists the
    paths and the workers read the files, so all workers must have access to them. ``left``: see ``find_items``. Raises
    ``UsageError`` for a mix of input kinds, for a video, for a name that is not UTF-8, and if nothing matches.
    """
    paths = list(names)
    for suffix, reader in ((".parquet", _parquet), (".tar", _shards)):
        matches = [path for path in paths if str(path).endswith(suffix)]
        if matches and len(matches) < len(paths):
            raise UsageError(f"{suffix} files cannot be mixed with other inputs; caption the others in another run")
        if matches:
            return reader(matches)
    return _files(paths, left)


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
    """Add the columns ``caption``, ``score`` and ``error`` to a Ray dataset; the rows may change their order.

    With the option ``unsure``, also the column ``unsure``, which is true for captions below that confidence.

    model: Anything that ``load`` accepts; all workers must have access to it.
    column: The images: paths, URLs, file contents, or the path-bytes pairs of ``datasets``. Default: the first of
        ``COLUMNS`` that a row has.
    workers: Size of the pool, or a pair (minimum, maximum). Default: all GPUs, or all cores but one, which reads.
    cpus, gpus: Cores and GPUs per worker; ``gpus`` defaults to 1 if the cluster has any.
    keep_images: Keep columns of file contents.
    allow_private: Allow URLs of private networks, not only of the public internet.
    options: Options of ``CaptionPipeline.caption``.

    The dataset is lazy. Raises ``UsageError``, ``ConfigError`` and ``CheckpointError`` at the call for errors that
    every worker would hit.
    """
    ray = _ray()
    directory = find(model)
    with_options(GenerationConfig(max_tokens=1 << 30), options)
    if batch_size < 1 or not 0 < cpus < math.inf:
        raise UsageError(f"batch_size must be at least 1 and cpus above 0, not {batch_size} and {cpus:g}")
    resources: Mapping[str, float] = ray.cluster_resources()
    if gpus is None:
        gpus = 1.0 if resources.get("GPU", 0) >= 1 else 0.0
    if workers is None:
        free = resources.get("GPU", 0) / gpus if gpus else (resources.get("CPU", 1) - 1) / cpus
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
    """Write rows as a folder of ``parquet`` or ``jsonl`` files, which all workers must have access to.

    Raises ``UsageError`` for a folder that already holds files: it would mix the rows of two runs.
    """
    if kind not in ("parquet", "jsonl"):
        raise UsageError(f"with Ray, captions are written as parquet or jsonl, not {kind!r}")
    if (os.path.isdir(out) and any(os.scandir(out))) or os.path.isfile(out):
        raise UsageError(f"{os.fspath(out)} already exists; name a new folder")
    target = os.fspath(out) if "://" in os.fspath(out) else os.path.abspath(out)
    with plain_errors():
        ds.write_parquet(target) if kind == "parquet" else ds.write_json(target)


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Raise the message of a ``CaptionerError`` of a worker without Ray's wrapping."""
    try:
        yield
    except Exception as error:  # Ray transfers the message, not the class
        messages = re.findall(r"^captioner\.errors\.\w+: (.+)$", str(error), re.MULTILINE)
        if not messages:
            raise
        raise CaptionerError(messages[-1]) from None


class _Worker:
    """A worker of the pool: it loads the model and captions tables."""

    def __init__(self, *, threads: int, model: str, device: str, precision: Precision, **settings: Any) -> None:
        import torch

        keep_freed_memory()
        torch.set_num_threads(threads)
        self.pipe: CaptionPipeline = load(model, device=device, precision=precision)
        self.settings = settings

    def __call__(self, table: Any) -> Any:
        """Return a pyarrow table with captions, and without the columns of file contents."""
        import pyarrow as pa

        column = self.settings["column"]
        present = [name for name in ([column] if column else COLUMNS) if name in table.column_names]
        rows = table.select(present).to_pylist()
        columns, reach = column or ", ".join(COLUMNS), self.settings["reach"]
        images = [_image([row[name] for name in present], columns, reach) for row in rows]
        results = list(self.pipe.stream(images, batch_size=len(images) or 1, **self.settings["options"]))
        captions = [None if isinstance(result, ImageError) else result for result in results]
        bulky = [name for name in present if pa.types.is_nested(kind := table.schema.field(name).type) or _binary(kind)]
        for name in ("caption", "score", "unsure", "error", *([] if self.settings["keep_images"] else bulky)):
            if name in table.column_names:
                table = table.drop([name])
        errors = [str(result) if isinstance(result, ImageError) else None for result in results]
        table = table.append_column("caption", pa.array([c.text if c else None for c in captions], pa.string()))
        table = table.append_column("score", pa.array([c.score if c else None for c in captions], pa.float64()))
        if self.settings["options"].get("unsure"):
            table = table.append_column("unsure", pa.array([c.unsure if c else None for c in captions], pa.bool_()))
        return table.append_column("error", pa.array(errors, pa.string()))


def _image(values: list[Any], columns: str, reach: Reach) -> Any:
    source = next((value for value in values if value is not None), None)
    if source is None:
        return ImageError(f"the row has no image in {columns}")
    try:
        return image_of(source, reach=reach)
    except UsageError as error:
        return ImageError(str(error))


def _binary(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _ray() -> Any:
    """Return Ray with Ray Data."""
    ray_module("ray.data", _PURPOSE)
    return ray_module("ray", _PURPOSE)


def _pool(workers: int | tuple[int, int]) -> Any:
    from ray.data import ActorPoolStrategy

    least, most = (workers, workers) if isinstance(workers, int) else workers
    if not 1 <= least <= most:
        raise UsageError(f"workers must be at least 1, or a pair (minimum, maximum), not {workers!r}")
    # A short queue: a lost worker's queued tasks are repeated together with the running one.
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

    paths: list[str] = []
    # Includes files that are not images; their rows get an error. One frame of a video is enough to refuse it.
    for item in find_items(names, frames=1, left=left):
        archive = item.id.partition("!/")[0]
        if archive != item.id and is_archive_name(archive):
            raise UsageError(f"{shown(archive)} is not a WebDataset tar; unpack it, or caption it without Ray")
        video = item.id.partition("#")[0]
        if item.path is None and is_video_name(video) and not is_url(video):
            raise UsageError(f"{shown(video)} is a video; save its frames as images, or caption it without Ray")
        paths.append(item.id if is_url(item.id) else os.path.abspath(item.id))
        try:
            item.id.encode()
        except UnicodeEncodeError:
            raise UsageError(f"the name {shown(item.id)} is not UTF-8 and cannot be sent; rename it") from None
    if not paths:
        raise UsageError("there are no images to caption; name files, folders, Parquet or tar files")
    return from_items([{"path": path} for path in paths], override_num_blocks=max(1, -(-len(paths) // ROWS)))
