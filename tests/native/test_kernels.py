"""Every level of the library computes what plain C does: here, by other compilers, and for ARM in an emulator."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from captioner.native import library as native_library
from captioner.native.plans import LEVELS

SOURCES = Path(native_library.__file__).parent / "src"
TEST = Path(__file__).with_name("kernels.c")
WARNINGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror"]
ARM, WINDOWS = "aarch64-linux-gnu-gcc", "x86_64-w64-mingw32-gcc"


def build(out: Path, compiler: str, *options: str) -> Path:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    files = [str(TEST), *map(str, sorted(SOURCES.glob("*.c")))]
    command = [compiler, *WARNINGS, "-O1", "-fopenmp", f"-I{SOURCES}", *options, *files, "-lm", "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "omp.h" in done.stderr:
        pytest.skip(f"{compiler} has no OpenMP")
    assert done.returncode == 0, done.stderr
    return out


def run(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_levels_of_this_cpu(compiler: str, tmp_path: Path) -> None:
    found = run(str(build(tmp_path / "kernels", compiler)))
    assert set(found) <= set(LEVELS)
    if native_library.library() is not None:
        assert tuple(found) == native_library.levels()


@pytest.mark.slow
def test_no_byte_beyond_the_arrays_is_touched(tmp_path: Path) -> None:
    run(str(build(tmp_path / "kernels", "gcc", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")))


def test_neon_in_an_emulator(tmp_path: Path) -> None:
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.skip("no qemu-aarch64")
    assert run(emulator, "-cpu", "max", str(build(tmp_path / "kernels", ARM, "-static"))) == ["neon"]
    assert run(emulator, "-cpu", "cortex-a53", str(tmp_path / "kernels")) == []  # without dot products


def test_windows_compiles(tmp_path: Path) -> None:
    build(tmp_path / "kernels.exe", WINDOWS)
