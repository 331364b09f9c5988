"""A driver that runs the command as a user with few permissions, several times in one process, under limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Captions one photo first, so that all modules are loaded while they may be read, and goes on as nobody if it was
# started as root. A run's memory is limited to what the process has by then and ``memory`` bytes more.
PROGRAM = """
import json, os, resource, sys, traceback
from captioner.cli import main
model, photo, steps = sys.argv[1:]
options = ["--model", model, "--device", "cpu"]

def into(path, fd):
    kept = os.dup(fd)
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666), fd)
    return kept

kept = into("/dev/null", 1)
assert main(["caption", photo, *options]) == 0
os.dup2(kept, 1)
import bz2, encodings.cp437, encodings.idna, lzma, pillow_heif
from captioner.folder import lock, run, watch
from captioner.folder import writers
os.umask(0o022)
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for step in json.loads(steps):
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[5]) * resource.getpagesize()
    limits = {resource.RLIMIT_FSIZE: step["file_size"], resource.RLIMIT_DATA: step["memory"] and now + step["memory"]}
    for limit, value in limits.items():
        resource.setrlimit(limit, (value or resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    child = step["twice"] and os.fork()
    number = int(step["twice"] and not child)
    out, err = into(step["out"][number], 1), into(step["err"][number], 2)
    code = main([step["verb"], *options, *step["arguments"]])
    if number:
        os._exit(code)
    for limit in limits:
        resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    os.dup2(out, 1), os.dup2(err, 2)
    codes = [code] + ([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])] if child else [])
    print(json.dumps(codes), flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One run: its arguments, limits on the bytes of a file and of the process, its stdout, and one or two at once."""

    arguments: list[str]
    verb: str = "caption"
    memory: int = 0
    file_size: int = 0
    out: str = ""
    twice: bool = False


@dataclass(frozen=True, kw_only=True)
class Done:
    """Exit codes, stdout and stderr of the one run, or of the two."""

    codes: list[int]
    out: list[str]
    err: list[str]


def start(model: Path, steps: list[Step], folder: Path) -> list[Done]:
    """Run the steps one after the other in one process; ``folder`` holds their output."""
    folder.mkdir()
    folder.chmod(0o777)
    asked = []
    for number, step in enumerate(steps):
        names = [[str(folder / f"{number}.{part}.{stream}") for part in (0, 1)] for stream in ("out", "err")]
        asked.append({**asdict(step), "out": [step.out] * 2 if step.out else names[0], "err": names[1]})
    command = [sys.executable, "-c", PROGRAM, str(model), str(model.parent / "whole.png"), json.dumps(asked)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "no_proxy": "*"}
    done = subprocess.run(command, capture_output=True, check=False, env=environment, cwd=model.parent, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    codes = [json.loads(line) for line in done.stdout.splitlines()]
    return [
        Done(codes=found, out=_texts(step["out"], len(found)), err=_texts(step["err"], len(found)))
        for step, found in zip(asked, codes, strict=True)
    ]


def _texts(paths: list[str], count: int) -> list[str]:
    return ["" if path == "/dev/full" else Path(path).read_text(encoding="utf-8") for path in paths[:count]]
