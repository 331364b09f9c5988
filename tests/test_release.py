"""The release: workflows with few rights, wheels without an OpenMP, and an sdist with everything that a build needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = {path.stem: path for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}
WHEELS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["cibuildwheel"]
PINNED = re.compile(r"[\w.-]+/[\w.-]+@(v\d+|release/v\d+)")


def workflow(name: str) -> dict[str, Any]:
    """Return a workflow; YAML 1.1 reads its key ``on`` as True."""
    found: dict[Any, Any] = yaml.safe_load(WORKFLOWS[name].read_text(encoding="utf-8"))
    return {("on" if key is True else key): value for key, value in found.items()}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_have_few_rights(name: str) -> None:
    found = workflow(name)
    assert found["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in found["on"]
    rights = {job: settings["permissions"] for job, settings in found["jobs"].items() if "permissions" in settings}
    assert rights == ({"publish": {"id-token": "write"}} if name == "release" else {})
    assert "secrets." not in WORKFLOWS[name].read_text(encoding="utf-8")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_jobs_end_and_their_actions_are_pinned(name: str) -> None:
    for job in workflow(name)["jobs"].values():
        assert job["timeout-minutes"] <= 60
        assert all(PINNED.fullmatch(step["uses"]) for step in job["steps"] if "uses" in step)
        checkouts = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize("name", WORKFLOWS)
def test_commands_are_valid_and_hold_no_text_of_others(name: str) -> None:
    """An expression inside a command would let a branch's or a title's name become part of the command."""
    commands = [step["run"] for job in workflow(name)["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        assert "${{" not in command
        assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0


def test_only_a_tag_is_published_after_every_build() -> None:
    found = workflow("release")
    jobs = found["jobs"]
    assert found["on"] == {"push": {"tags": ["v*"]}, "workflow_dispatch": None}
    assert jobs["publish"]["if"] == "github.ref_type == 'tag'"
    assert set(jobs["publish"]["needs"]) == jobs.keys() - {"publish"}
    assert {entry["name"] for entry in jobs["wheels"]["strategy"]["matrix"]["include"]} == {
        "linux-x86_64",
        "linux-aarch64",
        "macos-arm64",
        "macos-x86_64",
        "windows-amd64",
    }


def test_wheels_never_hold_an_openmp() -> None:
    """Two OpenMP libraries in one process wait for each other; the library uses that of torch."""
    assert "--exclude libgomp.so.1" in WHEELS["linux"]["repair-wheel-command"]
    assert "--exclude libomp" in WHEELS["macos"]["repair-wheel-command"]


def test_a_failed_compilation_ends_the_build_of_a_wheel() -> None:
    assert WHEELS["linux"]["environment"] == {"CAPTIONER_NATIVE": "required"}
    assert 'os.environ.get("CAPTIONER_NATIVE") == "required"' in (ROOT / "setup.py").read_text(encoding="utf-8")


def test_wheels_are_tried_with_a_caption() -> None:
    photo = WHEELS["test-command"].removeprefix("captioner caption {project}/")
    assert (ROOT / photo).is_file()


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the files of the sdist, as setuptools lists them, from a copy of the repository without its weights."""
    copy = tmp_path_factory.mktemp("sdist")
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, copy)
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "model.safetensors")
    shutil.copytree(ROOT / "captioner", copy / "captioner", ignore=ignored)
    (copy / "captioner" / "weights" / "default" / "model.safetensors").write_bytes(b"")
    (copy / "tests").mkdir()
    (copy / "tests" / "test_x.py").write_text("")
    environment = {**os.environ, "PYTHONPATH": ""}
    command = [sys.executable, "setup.py", "-q", "egg_info"]
    subprocess.run(command, cwd=copy, env=environment, check=True, capture_output=True)
    return set((copy / "captioner.egg-info" / "SOURCES.txt").read_text(encoding="utf-8").splitlines())


def test_an_sdist_holds_everything_that_a_build_needs(listed: set[str]) -> None:
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "captioner").rglob("*") if path.is_file()}
    needed = {name for name in files if "__pycache__" not in name and Path(name).suffix not in (".so", ".pyd")}
    assert {"captioner/native/src/step.c", "captioner/weights/default/model.safetensors"} <= needed
    assert not needed - listed
    assert {"setup.py", "pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md"} <= listed
    assert not [name for name in listed if name.startswith("tests/")]


def test_a_wheel_is_for_any_python_and_its_library_has_no_python_in_its_name(tmp_path: Path) -> None:
    """Read from setup.py's own classes, without a compiler."""
    program = """
import setuptools
setuptools.setup = lambda **settings: globals().update(settings)
exec(compile(open("setup.py").read(), "setup.py", "exec"))
distribution = setuptools.Distribution({"name": "x", "ext_modules": ext_modules})
wheel = cmdclass["bdist_wheel"](distribution)
wheel.ensure_finalized()
build = cmdclass["build_ext"](distribution)
print(*wheel.get_tag()[:2], build.get_ext_filename("captioner.native._step"))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    python, abi, name = done.stdout.split()
    assert (python, abi) == ("py3", "none")
    assert Path(name).as_posix() in ("captioner/native/_step.so", "captioner/native/_step.pyd")
