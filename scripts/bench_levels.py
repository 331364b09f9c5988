"""The benchmark of captioning at each level of CPU, in one run, as one Markdown table.

    python scripts/bench_levels.py [--levels amx avx512 avx2 torch] [--threads 1 2 4]

Runs ``bench_generation.py`` once for each level and number of threads, with both sides held to the level: torch by the
variables of ATen, oneDNN and MKL, captioner by CAPTIONER_CPU_LEVEL. ``torch`` is captioner without its library on an
AVX2 CPU. A cell is how many times as fast as ``generate`` in fp32 captioner is; the rows of folders are photos per
second of the shipped model, from files to captions. See docs/speed.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

BENCHMARK = Path(__file__).with_name("bench_generation.py")
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "DNNL_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
LEVELS = {
    "amx": {},
    "avx512": {"DNNL_MAX_CPU_ISA": "AVX512_CORE_VNNI"},
    "avx2-vnni": {**AVX2, "DNNL_MAX_CPU_ISA": "AVX2_VNNI"},
    "avx2": AVX2,
    "sse42": {
        **AVX2,
        "ATEN_CPU_CAPABILITY": "default",
        "DNNL_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
    "torch": AVX2,
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=["amx", "avx512", "avx2", "torch"])
    parser.add_argument("--threads", nargs="+", type=int, default=[2])
    parser.add_argument("--rows", nargs="+", choices=("decoding", "folder"), default=["decoding", "folder"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=300, help="photos of the rows of folders")
    parser.add_argument("--tiny", action="store_true", help="use a tiny random model, to test the script")
    args = parser.parse_args(argv)
    table: dict[str, list[str]] = {}
    columns: list[str] = []
    for threads in args.threads:
        for level in args.levels:
            columns.append(level if len(args.threads) == 1 else f"{level}, {threads} threads")
            for name, cell in measured(level, threads, args):
                table.setdefault(name, []).append(cell)
            print(f"{columns[-1]} done", file=sys.stderr, flush=True)
    print("| |" + "".join(f" {column} |" for column in columns) + "\n|---|" + "---|" * len(columns))
    for name, cells in table.items():
        print(f"| {name} | " + " | ".join(cells) + " |")


def measured(level: str, threads: int, args: argparse.Namespace) -> list[tuple[str, str]]:
    """Return the name and the cell of each row of one run of the benchmark."""
    command = [sys.executable, str(BENCHMARK), "--rows", *args.rows, "--repeats", str(args.repeats)]
    command += ["--threads", str(threads), "--images", str(args.images)] + ["--tiny"] * args.tiny
    environment = os.environ | LEVELS[level] | {"CAPTIONER_CPU_LEVEL": level}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{level}, {threads} threads: {(done.stderr.strip() or done.stdout).splitlines()[-1]}")
    cells = []
    for line in done.stdout.splitlines():
        name, *values = (part.strip() for part in line.strip("|").split("|"))
        if "against `generate`" in name:
            cells.append((name.replace(" against `generate` in fp32", ""), values[2]))
        elif "against its bare encoder" in name:
            cells.append((f"folder, {'int8' if 'int8' in name else 'fp32'}", values[1]))
    return cells


if __name__ == "__main__":
    main()
