"""A benchmark of compressed captioners, as one Markdown table: scores, size, speed and memory of each.

    python scripts/bench_compression.py runs/small --data ../shared/flickr8k ... --held-out held_out.txt [--images 200]
        [--rows fp16 int8 int4 ...] [--tiny DIR]

The folder keeps the variants: one that exists is not made again, and one whose distillation was interrupted is resumed.
Scores are those of held-out images, which the distillation does not train on; ``--data DEV --split dev`` measures
others. Every row is captioned in a process of its own, so the peak of its memory is its own. ``same`` is the share of
captions equal to those of the first row, the model as it ships, in fp16. Speed counts the seconds of the process on the
CPU, from files to captions, so that other programs of the machine matter little.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.checkpoint import load
from captioner.compression.compress import spread
from captioner.data.samples import Sample
from captioner.data.sources import load_split
from captioner.metrics.bleu import bleu
from captioner.metrics.cider import cider_d
from captioner.metrics.words import splitter
from captioner.training.setup import read_data


@dataclass(frozen=True, kw_only=True)
class Row:
    """A variant: the options of `captioner compress`, the row whose captioner it compresses, and how it captions."""

    title: str
    start: str = ""  # the model that ships, or that of --model
    options: tuple[str, ...] = ()
    prune: float = 0.0
    epochs: int = 0
    trim: bool = False
    precision: str = "fp32"


ROWS = {
    "fp16": Row(title="as it ships, fp16", options=("--weights", "fp16")),
    "int8": Row(title="int8", options=("--weights", "int8")),
    "int8-run": Row(title="int8, `--precision int8`", options=("--weights", "int8"), precision="int8"),
    "int4": Row(title="4-bit body, int8 head", options=("--weights", "int4")),
    "trimmed": Row(title="English words, int8", options=("--weights", "int8"), trim=True),
    "0.8": Row(title="pruned to 0.8, fp16", options=("--weights", "fp16"), prune=0.8),
    "0.8-taught": Row(title="pruned to 0.8 and distilled, fp16", options=("--weights", "fp16"), prune=0.8, epochs=1),
    "0.6": Row(title="pruned to 0.6, fp16", options=("--weights", "fp16"), prune=0.6),
    "0.6-taught": Row(title="pruned to 0.6 and distilled, fp16", options=("--weights", "fp16"), prune=0.6, epochs=1),
    "all": Row(
        title="pruned to 0.8 and distilled, English words, 4-bit",
        options=("--weights", "int4"),
        start="0.8-taught",
        trim=True,
    ),
}
HEADS = ("", "BLEU-4", "CIDEr-D", "same", "size, MB", "photos per CPU second", "peak memory, MB")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the variants")
    parser.add_argument("--data", nargs="+", required=True, help="captioned images")
    parser.add_argument("--held-out", help="names of the images to hold out, one per line")
    parser.add_argument("--outside", action="store_true", help="the data may name images outside its folder")
    parser.add_argument("--split", help="measure this split instead of the held-out images")
    parser.add_argument("--text", nargs="+", default=[], help="captions whose words a trimmed vocabulary keeps")
    parser.add_argument("--model", default="shipped")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--epochs", type=int, help="epochs of each distillation instead of those of the rows")
    parser.add_argument("--tiny", type=Path, help="a further captioner for the table")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", nargs=3, metavar=("MODEL", "PRECISION", "PATHS"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        print(json.dumps(measure(*args.child, threads=args.threads)))
        return
    samples = spread(measured(args), args.images)
    args.folder.mkdir(parents=True, exist_ok=True)
    paths = args.folder / "images.json"
    paths.write_text(json.dumps([str(sample.path) for sample in samples]), encoding="utf-8")
    print(f"{len(samples)} images, {args.threads} threads, {processor()}\n")
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}", flush=True)
    first: list[str] = []
    for name in dict.fromkeys(("fp16", *args.rows)):
        row = ROWS[name]
        out = args.folder / name.removesuffix("-run")
        for needed in filter(None, (row.start, out.name)):
            if not (args.folder / needed / "config.json").exists():
                make(ROWS[needed], args.folder / needed, args)
        first = show(row.title, out, row.precision, samples, first, args)
    if args.tiny:
        show("tiny", args.tiny, "fp32", samples, first, args)


def measured(args: argparse.Namespace) -> Sequence[Sample]:
    """Return the images to measure: held-out ones, or those of a split."""
    if args.split:
        return [sample for source in args.data for sample in load_split(source, args.split, outside=args.outside)]
    return read_data(
        args.data, held_out=args.held_out, validation_images=10_000, outside=args.outside, report=complain
    ).validation


def make(row: Row, out: Path, args: argparse.Namespace) -> None:
    """Write the variant of a row with `captioner compress`."""
    start = str(args.folder / row.start) if row.start else args.model
    command = ["compress", start, str(out), *row.options]
    if row.trim:
        command += ["--vocab-from", *args.text]
    if row.prune:
        epochs = row.epochs if args.epochs is None else min(row.epochs, 1) * args.epochs
        command += ["--prune", str(row.prune), "--epochs", str(epochs), "--data", *args.data]
        command += [*(["--held-out", args.held_out] if args.held_out else []), *(["--outside"] * args.outside)]
    done = subprocess.run([sys.executable, "-m", "captioner", *command], stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SystemExit(f"captioner {' '.join(command)} failed")


def show(
    title: str, model: Path, precision: str, samples: Sequence[Sample], first: list[str], args: argparse.Namespace
) -> list[str]:
    """Print a row, and return the captions of the first one."""
    paths = str(args.folder / "images.json")
    command = [sys.executable, __file__, str(args.folder), "--data", "-", "--threads", str(args.threads)]
    done = subprocess.run([*command, "--child", str(model), precision, paths], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    captions: list[str] = found["captions"]
    (args.folder / f"{model.name}-{precision}.captions.json").write_text(json.dumps(captions), encoding="utf-8")
    first = first or captions
    tokenizer = load(model).tokenizer  # which words metrics count, and which captions are in its language
    split = splitter(tokenizer.config.words_in("en"))
    references = [[split(text) for text in tokenizer.captions_in("", sample.captions)] for sample in samples]
    candidates = [split(caption) for caption in captions]
    same = sum(a == b for a, b in zip(captions, first, strict=True)) / len(captions)
    size = sum(file.stat().st_size for file in model.iterdir())
    cells = [
        title,
        f"{bleu(candidates, references).bleu4:.1f}",
        f"{cider_d(candidates, references).mean:.1f}",
        f"{same:.0%}",
        f"{size / 1e6:.1f}",
        f"{len(captions) / found['seconds']:.1f}",
        f"{found['peak'] / 1e6:.0f}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)
    return first


def measure(model: str, precision: str, paths: str, *, threads: int) -> dict[str, object]:
    """Return the captions of the images, the seconds that they took, and this process's peak of memory in bytes."""
    import torch

    from captioner.pipelines import load as opened

    torch.set_num_threads(threads)
    pipeline = opened(model, device="cpu", precision="int8" if precision == "int8" else "fp32")
    images = json.loads(Path(paths).read_text(encoding="utf-8"))
    pipeline.caption(images[0])  # one-time preparations
    began = time.process_time()
    captions = [caption.text for caption in pipeline.caption(images)]
    seconds = time.process_time() - began
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    peak = 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    return {"captions": captions, "seconds": seconds, "peak": peak}


def processor() -> str:
    """Return the name of the CPU."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")


def complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
