"""A benchmark: photos per second and core time through Ray Data, with one and two workers of half a core.

    python scripts/bench_scale_out.py [--images 480] [--beams 5] [--model M] [FOLDER]

It starts and ends a local Ray cluster of two cores. FOLDER defaults to datasets/photos. Photos are repeated up to
--images. The clock runs from the first finished rows to the last, after all models are loaded. Core time is the time of
all Ray workers, including reading and loading.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import time
from pathlib import Path

from captioner.doctor.machine import cpu_name

ROOT = Path(__file__).resolve().parents[1]
os.environ["OMP_NUM_THREADS"] = "1"


def worker_seconds() -> float:
    """Return the processor time of the workers."""
    ticks = 0
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"MapWorker" in (entry / "cmdline").read_bytes():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=str(ROOT / "datasets" / "photos"))
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--model")
    args = parser.parse_args()
    import ray
    import ray.data

    from captioner.data.images import find_images
    from captioner.pipelines.scale_out import caption_dataset

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    photos = [str(path) for path in find_images([args.folder]) if isinstance(path, Path)]
    rows = [
        {"path": photo, "number": n} for n, photo in enumerate(itertools.islice(itertools.cycle(photos), args.images))
    ]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    print(f"{cpu_name()}, {os.cpu_count()} cores, ray {ray.__version__}")
    print(f"commit {commit.strip()}, {len(rows)} photos of {args.folder}, {args.beams} beams, batches of 16\n")
    print("| workers | photos per second | core seconds of a photo |\n|---|---|---|")
    for workers in (1, 2):
        ds = ray.data.from_items(rows, override_num_blocks=len(rows) // 16)
        captions = caption_dataset(ds, model=args.model, workers=workers, cpus=0.5, beams=args.beams)
        done, began, spent, last, used = 0, 0.0, 0.0, 0.0, 0.0
        for _ in captions.iter_rows():
            if not done:
                began, spent = time.perf_counter(), worker_seconds()
            done += 1
            if done % 16 == 0:
                last, used = time.perf_counter(), worker_seconds() or used
                if done == 16 * workers:  # the other workers finished their first batches at the same time
                    first = done
                    began, spent = last, used
        rate = (done - first) / (last - began)
        print(f"| {workers} | {rate:.1f} | {(used - spent) / (done - first):.3f} |", flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
