"""The part of `captioner caption` that runs on a Ray cluster (--ray)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from captioner.captioning.records import spoken, unsure_field
from captioner.cli.arguments import argument
from captioner.cli.options import print_left_out
from captioner.cli.output import escaped, paths_of, print_json, print_text, tell

if TYPE_CHECKING:
    from captioner.cli.options import Captioning
    from captioner.cli.writing import Writing


@dataclass(frozen=True, kw_only=True)
class Ray:
    """The cluster and its workers."""

    address: str | None = field(
        default=None,
        metadata=argument(
            flag="--ray",
            help="Ray cluster to use: auto, host:port, or local; prints rows, or writes them to the folder --out with "
            "--write parquet or jsonl",
            metavar="ADDRESS",
        ),
    )
    workers: int | None = field(
        default=None,
        metadata=argument(help="workers in the pool (default: as many as fit)", metavar="N", least=1),
    )
    worker_cpus: float = field(
        default=1.0, metadata=argument(help="cores per worker, such as 0.5 (default: 1)", metavar="C")
    )


def run_ray(captioning: Captioning, ray: Ray, writing: Writing, *, stream: bool) -> int:
    from captioner.errors import UsageError
    from captioner.pipelines.scale_out import caption_dataset, connect, plain_errors, read, write

    photos, printing = captioning.photos, captioning.printing
    own = {"details": printing.details, "stream": stream, "device": captioning.compute.device, **asdict(writing)}
    for name, value in own.items():
        if value and name not in ("write", "out"):
            raise UsageError(f"--{name.replace('_', '-')} cannot be combined with --ray; leave out one of the two")
    if captioning.count > 1:
        raise UsageError("--ray writes one caption per image; leave out --count")
    if bool(writing.write) != bool(writing.out):
        raise UsageError("with --ray, --write parquet (or jsonl) and --out FOLDER require each other; set both")
    connect(ray.address or "")
    left = photos.left_out()
    images = read(paths_of(photos.paths), left)
    print_left_out(left)
    captions = caption_dataset(
        images,
        model=captioning.model,
        workers=ray.workers,
        cpus=ray.worker_cpus,
        batch_size=captioning.compute.batch_size,
        precision=captioning.compute.precision,
        allow_private=photos.allow_private,
        **captioning.generation,
    )
    if writing.write and writing.out:
        write(captions, writing.out, writing.write)
        print_text(writing.out)
        return 0
    failed = 0
    with plain_errors():
        for row in captions.iter_rows():
            name = str(row.get("path") or row.get("url") or row.get("__key__") or "")
            failed += row["error"] is not None
            if printing.json:
                result = {"error": row["error"]} if row["error"] else {"caption": row["caption"], "score": row["score"]}
                print_json({"path": name, **result, **unsure_field(bool(row.get("unsure")))})
            elif row["error"]:
                tell(row["error"])
            else:
                print_text(f"{escaped(name)}\t{escaped(spoken(row['caption'], unsure=bool(row.get('unsure'))))}")
    return 1 if failed else 0
