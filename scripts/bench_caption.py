"""A benchmark: photos per second from files to captions, as a Markdown table with machine and commit.

    python scripts/bench_caption.py [--images 200] [--model M] [FOLDER]

FOLDER defaults to datasets/photos. Photos are repeated up to --images. A row is the median of three runs after a
warm-up.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import time
from pathlib import Path

import torch

import captioner
from captioner.data.images import find_images
from captioner.doctor.machine import cpu_name
from captioner.system.allocation import keep_freed_memory

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=str(ROOT / "datasets" / "photos"))
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--model")
    parser.add_argument("--device")
    args = parser.parse_args()
    keep_freed_memory()  # like the command line
    pipe = captioner.load(args.model, device=args.device)
    photos = [path for path in find_images([args.folder]) if isinstance(path, Path)]
    photos = list(itertools.islice(itertools.cycle(photos), args.images))

    def photos_per_second(beams: int, batch_size: int) -> float:
        began = time.perf_counter()
        for _ in pipe.stream(photos, beams=beams, batch_size=batch_size):
            pass
        return len(photos) / (time.perf_counter() - began)

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    print(f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}, ")
    print(f"commit {commit.strip()}, {len(photos)} photos of {args.folder}\n")
    print("| beams | batch size | photos per second |\n|---|---|---|")
    for beams, batch_size in ((1, 1), (1, 16), (5, 1), (5, 16)):
        list(pipe.stream(photos[:batch_size], beams=beams, batch_size=batch_size))
        runs = [photos_per_second(beams, batch_size) for _ in range(3)]
        print(f"| {beams} | {batch_size} | {statistics.median(runs):.1f} |", flush=True)


if __name__ == "__main__":
    main()
