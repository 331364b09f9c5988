"""The process that torch computes in: threads after a fork, and defaults of torch that somebody has changed."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator


@contextlib.contextmanager
def plain_defaults() -> Iterator[None]:
    """Make tensors in fp32 on the CPU where nothing else is said, whatever torch's defaults have become.

    Models are built and prepared under it: weights are filled in that form, and moved afterwards. It is a decorator
    too. The default dtype is one of all threads, so it is only touched where it is another one.
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
    """Let a forked child of this process compute, in one thread, from now on.

    OpenMP's threads do not survive a fork, and a child that shares work among them waits for them for ever. It has the
    one thread that forked, as the workers of torch's data loaders do.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_one_thread)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
