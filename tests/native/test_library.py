"""Captioning without the library gives the same results, and its structs match its sources."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from captioner.native import library as room
from captioner.native.library import library
from captioner.native.plans import LayerPlan, ProductPlan, StepPlan

SOURCES = Path(room.__file__).parent / "src"
built = pytest.mark.skipif(library() is None, reason="the library is not built, or this CPU cannot run it")


def test_without_a_file_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "FOLDER", tmp_path)
    assert room._loaded.__wrapped__()[0] is None


@pytest.mark.parametrize("content", [b"", b"no library", b"\x7fELF"])
def test_a_file_that_is_none_is_not_used(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "_step.so").write_bytes(content)
    monkeypatch.setattr(room, "FOLDER", tmp_path)
    assert room._loaded.__wrapped__()[0] is None


@built
def test_a_library_of_other_sources_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Longer(ctypes.Structure):
        _fields_ = (("step", StepPlan), ("one_more", ctypes.c_int64))

    assert room._loaded.__wrapped__()[0] is not None
    monkeypatch.setattr(room, "StepPlan", Longer)
    assert room._loaded.__wrapped__()[0] is None


@built
def test_a_library_with_threads_of_its_own_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_shares_threads", lambda found: False)
    assert room._loaded.__wrapped__()[0] is None


@built
def test_its_threads_are_those_of_torch() -> None:
    """A fresh process with both has one OpenMP."""
    program = (
        "import re; from captioner.native.library import library; assert library() is not None;"
        "print(*{line.split()[-1] for line in open('/proc/self/maps') if re.search('lib(g|i)?omp', line)}, sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == 1, done.stdout


@built
@pytest.mark.parametrize("name", [*room.levels(), "torch", "avx1024", "", " AVX2 "])
def test_a_variable_chooses_the_level(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(room.VARIABLE, name)
    compiled, found = room._loaded.__wrapped__()
    wanted = name.strip().lower()
    assert (compiled is None) == (wanted == "torch")
    if wanted in room.levels():
        assert (found.level, found.reason) == (wanted, f"{room.VARIABLE} is {wanted}")
    elif wanted == "torch":
        assert found.level is None
    else:
        assert found.level == room.levels()[-1]
        assert found.reason == (
            "" if not name else f"{room.VARIABLE} is 'avx1024', not one of torch, {', '.join(room.levels())}"
        )
    assert found.path is not None


def test_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "FOLDER", tmp_path)
    assert room._loaded.__wrapped__()[1].reason == "the library was not built"
    (tmp_path / "_step.so").write_bytes(b"no library")
    assert "cannot be loaded" in room._loaded.__wrapped__()[1].reason


def test_structs_have_the_fields_of_the_sources_in_their_order() -> None:
    text = re.sub(r"/\*.*?\*/", "", (SOURCES / "plan.h").read_text(encoding="utf-8"), flags=re.S)
    for name, plan in (("product", ProductPlan), ("layer", LayerPlan), ("step", StepPlan)):
        body = re.search(rf"struct {name} \{{(.*?)\n\}};", text, re.S)
        assert body is not None
        fields = [field for line in body[1].split(";") for field in re.findall(r"\*?(\w+)\s*(?:,|$)", line.strip())]
        renamed = {"in": "inputs", "out": "outputs", "global": "global_mask", "local": "local_mask"}
        assert [renamed.get(field, field) for field in fields] == [field[0] for field in plan._fields_]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_the_sources_compile_without_a_warning(tmp_path: Path) -> None:
    files = sorted(SOURCES.glob("*.c"))
    assert all(len(path.read_text(encoding="utf-8").splitlines()) <= 300 for path in SOURCES.iterdir())
    command = ["gcc", "-std=gnu11", "-O1", "-fopenmp", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*command, "-o", str(tmp_path / "out.so"), *map(str, files), "-lm"], check=True)
