"""Python, the system, the CPU, and the number of threads that this process may use."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from captioner.doctor.lines import Fact, Line, Warned
from captioner.version import __version__

FLAGS = {
    "sse4_2": "SSE4.2",
    "avx2": "AVX2",
    "fma": "FMA",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "amx_int8": "AMX INT8",
    "amx_bf16": "AMX BF16",
    "asimd": "NEON",
    "asimddp": "NEON dot product",
    "i8mm": "NEON I8MM",
    "bf16": "NEON BF16",
    "sve": "SVE",
}
"""The instructions that decide about speed, by their names in /proc/cpuinfo."""
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CAPTIONER_CPU_LEVEL", "ATEN_CPU_CAPABILITY", "CUDA_VISIBLE_DEVICES")
ROOT = Path("/")


def versions() -> Iterator[Line]:
    """Yield the versions of captioner, Python and the system."""
    yield Fact(name="captioner", value=__version__)
    venv = ", virtual environment" if sys.prefix != sys.base_prefix else ""
    yield Fact(name="Python", value=f"{platform.python_version()} ({platform.python_implementation()}{venv})")
    libc = " ".join(platform.libc_ver()).strip() if sys.platform == "linux" else ""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    yield Fact(name="system", value=f"{system}, {libc or 'not glibc'}" if sys.platform == "linux" else system)


def cpu() -> Iterator[Line]:
    """Yield the name of the CPU and the instructions that decide about speed."""
    yield Fact(name="CPU", value=cpu_name())
    info = _cpuinfo(ROOT)
    flags = (info.get("flags") or info.get("features") or "").split()
    if flags:
        known = [shown for flag, shown in FLAGS.items() if flag in flags]
        yield Fact(name="instructions", value=", ".join(known) or "none that decide about speed")


def cpu_name() -> str:
    """Return the name of the CPU; without one that of its kind."""
    info = _cpuinfo(ROOT)
    name = info.get("model name") or info.get("hardware") or _name_elsewhere() or platform.processor()
    return name or platform.machine() or "not known"


def threads() -> Iterator[Line]:
    """Yield the CPUs of this process and the threads of torch; warn about more threads than CPUs."""
    cpus, quota = usable_cpus(), cgroup_cpus(ROOT)
    limit = "" if quota is None else f", limited to the time of {quota:g} by a cgroup"
    yield Fact(name="CPUs", value=f"{cpus} of {os.cpu_count() or cpus}{limit}")
    for variable in VARIABLES:
        if variable in os.environ:
            yield Fact(name=variable, value=repr(os.environ[variable][:40]))
    import torch

    used = torch.get_num_threads()
    yield Fact(name="threads of torch", value=str(used))
    least = max(1, round(cpus if quota is None else min(cpus, quota)))
    if used > least:
        yield Warned(
            problem=f"torch uses {used} threads on {least} CPU{'s' if least > 1 else ''}, so they wait for each other",
            remedy=f"set OMP_NUM_THREADS={least} before the command",
        )


def usable_cpus() -> int:
    """Return the number of CPUs on which this process may run."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cgroup_cpus(root: Path) -> float | None:
    """Return the CPU time that the cgroups of this process allow, in CPUs; None without a limit."""
    limits = []
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in groups:
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0":  # version 2
            limits += [_quota((folder / "cpu.max",)) for folder in _upwards(root / "sys/fs/cgroup", group)]
        elif "cpu" in controllers.split(","):
            files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            for folder in _upwards(root / "sys/fs/cgroup/cpu", group):
                limits.append(_quota(tuple(folder / name for name in files)))
    return min((limit for limit in limits if limit is not None), default=None)


def _upwards(top: Path, group: str) -> list[Path]:
    """Return the folders of a cgroup and of those around it. In a container the path may be that of the host."""
    parts = [part for part in group.split("/") if part not in ("", "..")]
    return [top.joinpath(*parts[:length]) for length in range(len(parts) + 1)]


def _quota(files: tuple[Path, ...]) -> float | None:
    """Return the quota divided by its period, from files that hold both numbers; None if there is no limit."""
    try:
        quota, period = " ".join(file.read_text(encoding="utf-8") for file in files).split()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no such cgroup; "max"
        return None


def _cpuinfo(root: Path) -> dict[str, str]:
    """Return the first CPU of /proc/cpuinfo, by lower-case names; empty without the file."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = re.findall(r"^([^:\n]+?)\s*:[ \t]*(.*)$", text, re.MULTILINE)
    return {name.lower(): value for name, value in reversed(lines)}


def _name_elsewhere() -> str:
    """Return the name of the CPU on macOS; empty on other systems."""
    if sys.platform != "darwin":
        return ""
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    return subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
