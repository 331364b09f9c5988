"""A server that starts `captioner caption` in forked processes with torch and the model already loaded.

A line of JSON on stdin holds the arguments of a process; stdout gets its process id, then its exit status.
"""

from __future__ import annotations

import json
import os
import sys

import torch

import captioner.pipelines
from captioner.cli import main


def serve(checkpoint: str) -> None:
    torch.set_num_threads(1)
    pipe = captioner.pipelines.load(checkpoint, device="cpu")
    captioner.pipelines.load = lambda *args, **options: pipe  # type: ignore[assignment]
    for line in sys.stdin:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os._exit(main(["caption", *json.loads(line)]))
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
