"""The native library, torch and the extras, as they are and as they might be."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from captioner.doctor import software
from captioner.doctor.lines import Fact, Line, Warned
from captioner.inference import precision
from captioner.native import library
from captioner.native.plans import LEVELS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]


def facts(lines: list[Line]) -> dict[str, str]:
    return {line.name: line.value for line in lines if isinstance(line, Fact)}


def warnings(lines: list[Line]) -> list[Warned]:
    return [line for line in lines if isinstance(line, Warned)]


@pytest.mark.parametrize(
    ("level", "path", "chosen", "remedy"),
    [
        ("avx2", "/x/_step.so", "", None),
        ("avx2", "/x/_step.so", "AVX2", None),
        ("avx2", "/x/_step.so", "avx1024", "choose one of these, or unset it"),
        (None, None, "", "install captioner from a wheel, or where there is a C compiler: pip install"),
        (None, "/x/_step.so", "", "if this CPU is not the reason, install captioner again: pip install"),
        (None, "/x/_step.so", "avx1024", "unset CAPTIONER_CPU_LEVEL"),
        (None, "/x/_step.so", "Torch", None),
    ],
)
def test_a_library_that_is_not_used_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, level: str | None, path: str | None, chosen: str, remedy: str | None
) -> None:
    status = library.NativeStatus(level=level, reason="for a test", path=Path(path) if path else None)
    monkeypatch.setattr(library, "status", lambda: status)
    monkeypatch.setattr(precision, "INT8_AHEAD", {"avx2": False, "torch": False})
    monkeypatch.setenv("CAPTIONER_CPU_LEVEL", chosen)
    found = list(software.native())
    name = f"{level or 'torch operators alone'}{' (_step.so)' if path else ''}: for a test"
    assert facts(found)["native library"] == name
    assert facts(found)["int8"] == f"is not faster than fp32 at level {level or 'torch'}"
    assert [warning.remedy.startswith(remedy or "") for warning in warnings(found)] == [True] * (remedy is not None)


@pytest.mark.parametrize(("cuda", "gpus", "told"), [("13.0", [], 1), ("13.0", ["H200, 141 GB"], 0), (None, [], 0)])
def test_torch_for_a_gpu_without_one_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, gpus: list[str], told: int
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(software, "_gpus", lambda: gpus)
    found = list(software.torch_build())
    assert f"build for {'CUDA 13.0' if cuda else 'CPU'}, operators for " in facts(found)["torch"]
    assert facts(found)["GPU"] == ("; ".join(gpus) or "none")
    assert len(warnings(found)) == told
    assert all("--index-url https://download.pytorch.org/whl/cpu" in warning.remedy for warning in warnings(found))


def test_the_command_for_torch_is_that_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert software.CPU_TORCH.replace("--force-reinstall ", "") in readme


def test_openmp_libraries_of_a_process(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.write_text(
        "7f00-7f01 r--p 0 08:01 1 /venv/lib/torch/lib/libgomp.so.1\n"
        "7f01-7f02 r-xp 0 08:01 1 /venv/lib/torch/lib/libgomp.so.1\n"
        "7f03-7f04 r-xp 0 08:01 2 /usr/lib/my libs/libiomp5.so\n"
        "7f05-7f06 r-xp 0 08:01 3 /usr/lib/libompl.so\n"
        "7f05-7f06 rw-p 0 00:00 0 [heap]\n"
    )
    loaded = software._loaded(maps)
    assert loaded == {"/venv/lib/torch/lib/libgomp.so.1", "/usr/lib/my libs/libiomp5.so"}
    assert software._loaded(tmp_path / "none") == set()


def test_two_openmp_libraries_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not warnings(list(software.openmp())), "this process has one"
    monkeypatch.setattr(software, "_loaded", lambda maps: {"/a/libgomp.so.1", "/b/libiomp5.so"})
    found = list(software.openmp())
    assert facts(found)["OpenMP"].endswith("libgomp.so.1, libiomp5.so")
    assert [warning.problem for warning in warnings(found)] == [
        "2 OpenMP libraries are loaded (libgomp.so.1, libiomp5.so), and their threads compete for the CPUs"
    ]


def test_missing_packages_have_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"nltk": "3.9", "timm": "1.0"}
    monkeypatch.setattr(software, "_version", known.get)
    found = facts(list(software.extras()))
    assert found["extra evaluate"] == "nltk 3.9"
    assert found["extra train"] == "without accelerate, tensorboard: pip install 'captioner[train]'"
    packages = list(software.packages())
    assert facts(packages)["timm"] == "1.0"
    assert len(warnings(packages)) == len(software.PACKAGES) - 1
    assert all(warning.fatal for warning in warnings(packages))


def test_the_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: set() for name in project["optional-dependencies"] if name != "dev"}
    for name, known in extras.items():
        for line in project["optional-dependencies"][name]:
            package = re.split(r"[\[<>=; ]", line)[0]
            train = [re.split(r"[\[<>=; ]", other)[0] for other in project["optional-dependencies"]["train"]]
            known.update(train if package == "captioner" else [package])
        known.discard("tomli")  # part of Python since 3.11
    assert {name: set(packages) for name, packages in software.EXTRAS.items()} == extras


def test_a_torchvision_of_another_torch_is_fatal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not list(software.torchvision())
    monkeypatch.setitem(sys.modules, "torchvision", None)
    (found,) = software.torchvision()
    assert isinstance(found, Warned)
    assert found.fatal
    assert found.problem.startswith("torchvision cannot be imported with this torch: ")


def test_the_page_shows_every_level() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w-]+)` \|.*\| `(.*)` \|$", page, re.MULTILINE))
    assert rows.keys() == precision.INT8_AHEAD.keys() - {"neon"}
    for level, int8 in rows.items():
        verb = "may be" if precision.faster("int8", level) else "is not"
        assert int8 == f"{verb} faster than fp32 at level {level}"


def test_every_level_is_in_the_table_of_precisions() -> None:
    assert set(LEVELS) == precision.INT8_AHEAD.keys()
