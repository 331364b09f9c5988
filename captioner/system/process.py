"""State of the process that torch depends on: threads after a fork, and changed torch defaults."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator


@contextlib.contextmanager
def plain_defaults() -> Iterator[None]:
    """Set torch's default dtype to fp32 and its default device to the CPU, as a context manager or decorator.

    Models are built and prepared under it: weights are initialised in fp32 on the CPU, and moved afterwards. The
    default dtype is shared by all threads, so it is only changed if it differs.
    """
    import torch

    before = torch.get_default_dtype()
    if before != torch.float32:
        torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        if before != torch.float32:
            torch.set_default_dtype(before)


@functools.cache
def survive_forks() -> None:
    """Restrict forked children of this process to one thread, from now on.

    OpenMP's threads do not survive a fork, and a child that waits for them hangs. The workers of torch's data loaders
    use one thread for the same reason.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_one_thread)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
