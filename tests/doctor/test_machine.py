"""The CPU and the limits on its use, from made-up files of Linux."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from captioner.doctor import machine
from captioner.doctor.lines import Fact, Line, Warned, lines_of

X86 = "processor\t: 0\nmodel name\t: Fast CPU\nflags\t\t: fpu sse4_2 avx2 fma\n\nprocessor\t: 1\nmodel name\t: Other\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd0c\n"


def facts(lines: list[Line]) -> dict[str, str]:
    return {line.name: line.value for line in lines if isinstance(line, Fact)}


def warnings(lines: list[Line]) -> list[Warned]:
    return [line for line in lines if isinstance(line, Warned)]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    (tmp_path / "proc" / "self").mkdir(parents=True)
    return tmp_path


def test_the_name_and_the_instructions_of_the_cpu(root: Path) -> None:
    (root / "proc" / "cpuinfo").write_text(X86)
    assert facts(list(machine.cpu())) == {"CPU": "Fast CPU", "instructions": "SSE4.2, AVX2, FMA"}
    (root / "proc" / "cpuinfo").write_text(ARM)
    assert facts(list(machine.cpu()))["instructions"] == "NEON, NEON dot product"


def test_without_proc_the_cpu_has_the_name_that_python_knows(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.processor", lambda: "x86")
    assert facts(list(machine.cpu())) == {"CPU": "x86"}
    assert machine.cpu_name() == "x86"
    monkeypatch.setattr(sys, "platform", "darwin")
    said = subprocess.CompletedProcess([], 0, stdout="Apple M9\n")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: said)
    assert facts(list(machine.cpu())) == {"CPU": "Apple M9"}


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/a/b\n"}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "max 100000\n"}, None),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "200000 100000\n",
            },
            2.0,
        ),
        ({"proc/self/cgroup": "0::/host/path/docker\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/a\n2:cpuset:/\n",
                "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            4.0,
        ),
        ({"proc/self/cgroup": "0::/\nnot a line\n", "sys/fs/cgroup/cpu.max": "broken"}, None),
    ],
)
def test_the_limit_of_cgroups(root: Path, files: dict[str, str], cpus: float | None) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    assert machine.cgroup_cpus(root) == cpus


@pytest.mark.parametrize(
    ("cpus", "quota", "used", "told"),
    [
        (8, None, 8, ""),
        (8, None, 16, "torch uses 16 threads on 8 CPUs"),
        (8, 2.0, 8, "torch uses 8 threads on 2 CPUs"),
        (8, 0.5, 2, "torch uses 2 threads on 1 CPU,"),
        (2, 64.0, 2, ""),
        (8, None, 1, ""),
    ],
)
def test_more_threads_than_cpus_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, cpus: int, quota: float | None, used: int, told: str
) -> None:
    monkeypatch.setattr(machine, "usable_cpus", lambda: cpus)
    monkeypatch.setattr(machine, "cgroup_cpus", lambda root: quota)
    monkeypatch.setattr(torch, "get_num_threads", lambda: used)
    found = list(machine.threads())
    assert facts(found)["threads of torch"] == str(used)
    assert bool(warnings(found)) is bool(told)
    for warning in warnings(found):
        assert warning.problem.startswith(told)
        assert warning.remedy.startswith("set OMP_NUM_THREADS=")


def test_variables_are_shown_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    found = facts(list(machine.threads()))
    assert found["OMP_NUM_THREADS"] == "'3'"
    assert "HF_TOKEN" not in found


def test_a_system_without_affinity_counts_all_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for platform in ("darwin", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        assert machine.usable_cpus() == os.cpu_count()


def test_versions_of_this_installation() -> None:
    found = facts(list(lines_of("versions", machine.versions)))
    assert found.keys() == {"captioner", "Python", "system"}
    assert found["Python"].startswith(".".join(map(str, sys.version_info[:3])))
