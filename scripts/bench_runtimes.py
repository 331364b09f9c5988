"""A benchmark of one captioner in several runtimes, as a Markdown table with machine and commit.

    npm install --prefix NODE @huggingface/transformers
    python scripts/bench_runtimes.py --photos FOLDER --node NODE [--count 50] [--threads 1]

Every runtime captions the same pixels by greedy search, one photo after the other: this package with torch and its C
library, ONNX Runtime in Python, and transformers.js in Node. Each runs in a process of its own. Cold start is the time
from the start of the process to its first caption; photos per second count the others. Both are in seconds of the CPU,
which other work on the machine changes little, and in brackets of the clock. ``equal`` are the captions that equal
those of this package in fp32. Two more rows give photos instead of pixels to Node: resized as Pillow does
(examples/pixels.mjs), and by transformers.js itself. It fails if a caption in fp32 differs, or more than 5 % in
int8. See docs/export.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

START = time.perf_counter()
ROOT = Path(__file__).resolve().parents[1]
DTYPES = {"fp32": "fp32", "int8": "q8"}
LEAST = {"fp32": 1.0, "int8": 0.95}  # share of equal captions
HEADER = "| runtime | precision | input | equal | cold start | photos / s | MB of files | MB of memory |"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder with photos")
    parser.add_argument("--model", default="shipped", help="captioner, shipped by default")
    parser.add_argument("--exported", type=Path, help="its ONNX export (default: made now)")
    parser.add_argument("--node", type=Path, help="folder with node_modules; without it, no rows of Node")
    parser.add_argument("--count", type=int, default=50, help="photos")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", nargs=4, metavar=("MODEL", "PRECISION", "KIND", "LIST"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        print(json.dumps(captioned(*args.child, threads=args.threads)))
        return
    with tempfile.TemporaryDirectory() as folder:
        failed = table(args, Path(folder))
    if failed:
        sys.exit(f"{', '.join(failed)}: too few captions equal those of torch in fp32")


def captioned(model: str, precision: Any, kind: str, listed: str, *, threads: int) -> dict[str, Any]:
    """Caption the files of pixels in a list, in this process."""
    import numpy as np
    import torch

    import captioner

    torch.set_num_threads(threads)
    paths = json.loads(Path(listed).read_text())
    pipe = captioner.load(None if model == "shipped" else model, device="cpu", precision=precision)
    size = pipe.checkpoint.config.preprocess.size

    def caption(path: str) -> str:
        pixels = torch.from_numpy(np.fromfile(path, np.float32).reshape(3, size, size))
        return pipe.caption_pixels([pixels], beams=1)[0].text

    captions = [caption(paths[0])]
    cold = time.process_time(), time.perf_counter() - START
    captions += [caption(path) for path in paths[1:]]
    done = time.process_time() - cold[0], time.perf_counter() - START - cold[1]
    return {"captions": captions, "seconds": done, "cold": cold, "status": Path("/proc/self/status").read_text()}


def table(args: argparse.Namespace, folder: Path) -> list[str]:
    """Print the table; return the names of the rows with too few equal captions."""
    import captioner
    from captioner.checkpoint.files import SHIPPED

    source = None if args.model == "shipped" else args.model
    exported = args.exported or captioner.export(captioner.load(source), folder / "model", to="onnx")
    photos, pixels = prepared(args.photos, args.count, folder, source)
    plain = sum(file.stat().st_size for file in (SHIPPED if source is None else Path(source)).glob("*.*"))
    print(machine(args.threads), "", HEADER, "|" + "---|" * 8, sep="\n")
    failed: list[str] = []
    expected: list[str] = []

    def row(name: str, precision: str, given: str, result: dict[str, Any], size: int, *, held: bool = True) -> None:
        expected.extend([] if expected else result["captions"])
        equal = sum(one == other for one, other in zip(result["captions"], expected, strict=True))
        if held and equal < LEAST[precision] * len(expected):
            failed.append(f"{name} {precision}")
        rates = [(len(expected) - 1) / seconds for seconds in result["seconds"]]
        memory = int(re.findall(r"VmHWM:\s*(\d+) kB", result["status"])[0]) / 1024
        cells = [name, precision, given, f"{equal} of {len(expected)}", "{:.1f} s ({:.1f})".format(*result["cold"])]
        cells += ["{:.1f} ({:.1f})".format(*rates), f"{size / 1e6:.1f}", f"{memory:.0f}"]
        print("|", " | ".join(cells), "|", flush=True)

    for precision in DTYPES:
        row("this package", precision, "pixels", python(args.model, precision, pixels, args.threads), plain)
    for precision in DTYPES:
        result = python(str(exported), precision, pixels, args.threads)
        row("ONNX Runtime, Python", precision, "pixels", result, size_of(exported, precision))
    for mode in ("pixels", "files", "pipeline") if args.node else ():
        given = {"pixels": pixels, "files": photos, "pipeline": photos}[mode]
        name = {"pixels": "pixels", "files": "photos, Pillow's resize", "pipeline": "photos, its own resize"}[mode]
        for precision in DTYPES:
            result = node(args.node, exported, DTYPES[precision], mode, given, args.threads)
            row("transformers.js, Node", precision, name, result, size_of(exported, precision), held=mode == "pixels")
    return failed


def prepared(source: Path, count: int, folder: Path, model: str | None) -> tuple[Path, Path]:
    """Write the pixels of ``count`` photos; return the lists of the photos and of the files of pixels."""
    import captioner

    transform = captioner.load(model, device="cpu").transform
    suffixes = (".jpg", ".jpeg", ".png", ".webp")
    photos = [path.resolve() for path in sorted(source.iterdir()) if path.suffix.lower() in suffixes][:count]
    files = [folder / f"{number}.f32" for number in range(len(photos))]
    for photo, file in zip(photos, files, strict=True):
        file.write_bytes(transform(photo).contiguous().numpy().tobytes())
    lists = folder / "photos.json", folder / "pixels.json"
    for path, listed in zip(lists, (photos, files), strict=True):
        path.write_text(json.dumps(list(map(str, listed))))
    return lists


def python(model: str, precision: str, listed: Path, threads: int) -> dict[str, Any]:
    """Caption in a new process of Python."""
    child = ["--child", model, precision, "", str(listed), "--threads", str(threads)]
    return ran([sys.executable, __file__, *child], {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)})


def node(folder: Path, exported: Path, dtype: str, mode: str, listed: Path, threads: int) -> dict[str, Any]:
    """Caption in a new process of Node, whose modules lie in ``folder``."""
    for script in (ROOT / "scripts" / "caption_node.mjs", ROOT / "examples" / "pixels.mjs"):
        shutil.copy(script, folder)
    command = ["node", folder / "caption_node.mjs", exported.resolve(), dtype, mode, listed]
    return ran(list(map(str, command)), {"THREADS": str(threads)})


def ran(command: list[str], variables: dict[str, str]) -> dict[str, Any]:
    """Run a process and return the object that it prints last."""
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def size_of(exported: Path, precision: str) -> int:
    """Return the bytes of an export that one precision needs."""
    graphs = [path for path in (exported / "onnx").iterdir() if ("_quantized" in path.name) == (precision == "int8")]
    others = [path for path in exported.glob("*.json") if path.name != "captioner.json"]
    return sum(path.stat().st_size for path in (*graphs, *others))


def machine(threads: int) -> str:
    """Return a line about this machine."""
    from importlib.metadata import version

    names = [
        line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime"))
    commit = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return f"{names[0] if names else 'unknown CPU'}, {threads} thread(s), {packages}, commit {commit.stdout.strip()}"


if __name__ == "__main__":
    main()
