"""The part of `captioner caption` that runs on a Ray cluster (--ray)."""

from __future__ import annotations

import argparse
from typing import Any

from captioner.cli.options import complain_of, positive
from captioner.cli.output import escaped, paths_of, print_json, print_text, tell

_ALONE = (
    "details",
    "stream",
    "device",
    "existing",
    "separator",
    "before",
    "after",
    "template",
    "follow_links",
    "min_confidence",
    "shard",
    "watch",
    "dry_run",
    "report",
)


def add_ray(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("many machines", "pip install 'captioner[ray]'; docs/scale-out.md")
    group.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="Ray cluster to use: auto, host:port, or local; prints rows, or writes them to the folder --out with "
        "--write parquet or jsonl",
    )
    group.add_argument("--workers", type=positive, metavar="N", help="workers in the pool (default: as many as fit)")
    group.add_argument(
        "--worker-cpus", type=float, default=1.0, metavar="C", help="cores per worker, such as 0.5 (default: 1)"
    )


def run_ray(args: argparse.Namespace, options: dict[str, Any]) -> int:
    from captioner.data.leftout import LeftOut
    from captioner.errors import UsageError
    from captioner.scale_out import caption_dataset, connect, plain_errors, read, write

    for name in _ALONE:
        if getattr(args, name, None):
            raise UsageError(f"--{name.replace('_', '-')} cannot be combined with --ray; leave out one of the two")
    if args.count > 1:
        raise UsageError("--ray writes one caption per image; leave out --count")
    if bool(args.write) != bool(args.out):
        raise UsageError("with --ray, --write parquet (or jsonl) and --out FOLDER require each other; set both")
    connect(args.ray)
    left = LeftOut(everything=args.all)
    images = read(paths_of(args.paths), left)
    complain_of(left)
    captions = caption_dataset(
        images,
        model=args.model,
        workers=args.workers,
        cpus=args.worker_cpus,
        batch_size=args.batch_size,
        precision=args.precision,
        allow_private=args.allow_private,
        **options,
    )
    if args.write:
        write(captions, args.out, args.write)
        print_text(args.out)
        return 0
    failed = 0
    with plain_errors():
        for row in captions.iter_rows():
            name = str(row.get("path") or row.get("url") or row.get("__key__") or "")
            failed += row["error"] is not None
            if args.json:
                result = {"error": row["error"]} if row["error"] else {"caption": row["caption"], "score": row["score"]}
                print_json({"path": name, **result})
            elif row["error"]:
                tell(row["error"])
            else:
                print_text(f"{escaped(name)}\t{escaped(row['caption'])}")
    return 1 if failed else 0
