"""The layers of the architecture: allowed imports, the modules loaded at start, and the contents of the wheel."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
HOUSE = ROOT / "captioner"

# A room is a direct child of captioner/. It imports from lower floors and from itself, never from its own floor.
FLOORS = {
    "errors": 0,
    **dict.fromkeys(("config", "version", "system", "native"), 1),
    **dict.fromkeys(("layers", "data", "metrics", "text"), 2),
    **dict.fromkeys(("models", "html"), 3),
    **dict.fromkeys(("checkpoint", "generation", "inspection"), 4),
    "inference": 5,
    **dict.fromkeys(("captioning", "hub"), 6),
    **dict.fromkeys(("evaluation", "explain"), 7),
    **dict.fromkeys(("training", "pipelines"), 8),
    **dict.fromkeys(("compression", "doctor", "folder", "scale_out", "serving", "transformers"), 9),
    **dict.fromkeys(("reviewing", "exporting"), 10),
    "cli": 11,
    **dict.fromkeys(("__init__", "__main__"), 12),
}
MOST_LINES = 300
LONG = {
    "scripts/bench_generation.py": 316,
    "tests/checkpoint/test_untrusted.py": 371,
    "tests/data/test_images.py": 406,
    "tests/data/test_sources_folders.py": 322,
    "tests/data/test_sources_shards.py": 343,
    "tests/folder/test_run.py": 500,
    "tests/hostile/files.py": 322,
    "tests/test_config.py": 319,
}
"""Longer modules with their lengths, which may only fall; remove an entry at 300 lines."""
OPTIONAL = (
    "accelerate",
    "nltk",
    "pandas",
    "polars",
    "ray",
    "pyarrow",
    "tensorboard",
    "torch.utils.tensorboard",
    "transformers",
    "pycocoevalcap",
    "peft",
    "jieba",
    "exiv2",
    "pillow_heif",
    "av",
    "onnx",
    "onnxruntime",
    "onnxscript",
)
HEAVY = ("torch", "torchvision", "timm", "transformers", "accelerate", "tensorboard", "pyarrow", "peft")
HEAVY += ("pandas", "polars", "ray", "onnx", "onnxruntime")
SERVING = ("fastapi", "starlette", "uvicorn", "pydantic", "prometheus_client", "python_multipart", "h11")
"""Packages of a server, which only the rooms ``serving`` and ``reviewing`` import, and only their commands these."""
HEAVY += SERVING


def module_name(path: Path) -> str:
    """Return ``captioner.data.images`` for ``captioner/data/images.py``; a package has the name of its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def modules() -> dict[str, Path]:
    """Return every module by its name; the package's own ``__init__`` keeps that name, so that it has a room."""
    return {module_name(path): path for path in sorted(HOUSE.rglob("*.py"))}


MODULES = modules()


def nodes(tree: ast.AST, *, at_import: bool) -> Iterator[ast.AST]:
    """Yield all nodes; with ``at_import`` only those that run when the module is imported."""
    for child in ast.iter_child_nodes(tree):
        if at_import and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if at_import and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from (node for part in child.orelse for node in (part, *nodes(part, at_import=True)))
            continue
        yield child
        yield from nodes(child, at_import=at_import)


def imports(source: str, *, package: str, at_import: bool = False) -> set[str]:
    """Yield the dotted names that ``source``, a module of ``package``, imports; ``from a import b`` gives ``a.b``.

    Relative imports are resolved, and ``import_module("a.b")`` with a literal counts as an import.
    """
    found: set[str] = set()
    for node in nodes(ast.parse(source), at_import=at_import):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute("." * node.level + (node.module or ""), package)
            found.update(f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                found.add(absolute(first.value, package))
    return found


def absolute(name: str, package: str) -> str:
    level = len(name) - len(name.lstrip("."))
    if not level:
        return name
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - level + 1], *filter(None, [name[level:]])])


def imports_of(path: Path, *, at_import: bool = False) -> set[str]:
    package = ".".join(path.relative_to(ROOT).parent.parts)
    return imports(path.read_text(encoding="utf-8"), package=package, at_import=at_import)


def inside(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def room(name: str) -> str:
    """Return the room of an imported name of this package; public names belong to ``__init__``."""
    child = [*name.split("."), ""][1]
    exists = child and ((HOUSE / child).is_dir() or (HOUSE / f"{child}.py").exists())
    return child if exists or child in FLOORS else "__init__"


def broken_rules(own_room: str, imported: Iterable[str]) -> list[str]:
    """Return the imports that a module of ``own_room`` must not have."""
    rooms = {name: room(name) for name in imported if inside(name, ["captioner"])}
    return [
        f"{own_room} (floor {FLOORS[own_room]}) imports {name} (floor {FLOORS[target]})"
        for name, target in sorted(rooms.items())
        if target != own_room and FLOORS[target] >= FLOORS[own_room]
    ]


def test_every_room_has_a_floor() -> None:
    assert MODULES
    assert {room(name) for name in MODULES} <= FLOORS.keys()


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down(name: str) -> None:
    assert not broken_rules(room(name), imports_of(MODULES[name]))


@pytest.mark.parametrize("name", MODULES)
def test_optional_packages_wait_for_their_use(name: str) -> None:
    """Only the room ``transformers``, whose classes derive from that package's, imports it on import."""
    own = ["transformers"] if room(name) == "transformers" else []
    found = imports_of(MODULES[name], at_import=True)
    assert not [one for one in found if inside(one, OPTIONAL) and not inside(one, own)]
    assert not [one for one in found if not own and inside(one, ["captioner.transformers"])]


@pytest.mark.parametrize("name", MODULES)
def test_only_the_server_imports_its_packages(name: str) -> None:
    servers = ("serving", "reviewing")
    if room(name) not in servers:
        assert not [found for found in imports_of(MODULES[name]) if inside(found, SERVING)]
        assert not [found for found in imports_of(MODULES[name], at_import=True) if room(found) in servers]


def test_the_server_loads_no_torch() -> None:
    """The model's process has it; without it the server stays small when the model is unloaded."""
    program = "import sys, captioner.serving.serve; print('torch' in sys.modules, 'PIL' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["False", "False"], done.stderr


@pytest.mark.parametrize("name", MODULES)
def test_nothing_imports_datasets(name: str) -> None:
    assert not [found for found in imports_of(MODULES[name]) if inside(found, ["datasets"])]


def test_datasets_is_no_package() -> None:
    """An ``__init__.py`` would shadow the Hugging Face package ``datasets`` for programs run in the repository."""
    assert not list((ROOT / "datasets").rglob("__init__.py"))


def test_wheel_lists_every_package() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in MODULES.values()}
    with_init = {".".join(path.parent.relative_to(ROOT).parts) for path in HOUSE.rglob("__init__.py")}
    assert folders == with_init, "a folder with modules lacks its __init__.py"
    assert sorted(setuptools["packages"]) == sorted(with_init)


def test_wheel_holds_styles_and_scripts_of_pages() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    listed = {path for pattern in setuptools["package-data"]["captioner"] for path in HOUSE.glob(pattern)}
    assert {path for suffix in ("css", "js", "html") for path in HOUSE.rglob(f"*.{suffix}")} <= listed


def test_pages_share_one_style() -> None:
    """The page of `captioner review` adds the layout of its grid, dialogs and bars, and no colours."""
    sheets = sorted(path.relative_to(HOUSE).as_posix() for path in HOUSE.rglob("*.css"))
    assert sheets == ["html/page.css", "reviewing/review.css"]
    assert not re.search(r":[^;{}]*(?:#[0-9a-f]{3}|rgb|hsl)", (HOUSE / sheets[1]).read_text(encoding="utf-8"))


def test_modules_are_short() -> None:
    """No module has more than 300 lines. ``LONG`` holds older test modules and scripts, which may only shrink."""
    files = [path for folder in ("captioner", "scripts", "tests") for path in (ROOT / folder).rglob("*.py")]
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    long = {name: length for name, length in lengths.items() if length > LONG.get(name, MOST_LINES)}
    assert not long
    assert not [name for name in LONG if name.startswith("captioner/") or lengths.get(name, 0) <= MOST_LINES]


@pytest.mark.parametrize(
    "statement",
    [
        "import captioner",
        "import captioner.cli",
        "import captioner.metrics",
        "import runpy; sys.argv = ['captioner', '--help']; runpy.run_module('captioner', run_name='__main__')",
    ],
)
def test_start_up_is_light(statement: str) -> None:
    program = f"""
import sys
try:
    {statement}
except SystemExit as done:
    assert not done.code, done.code
print('loaded:', *sorted({set(HEAVY)!r} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].strip() == "loaded:"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import captioner.models.decoder as d", "captioner.models.decoder"),
        ("from captioner import errors", "captioner.errors"),
        ("def f():\n    from captioner.cli import main", "captioner.cli.main"),
        ("from .samples import Sample", "captioner.data.samples.Sample"),
        ("from . import images", "captioner.data.images"),
        ("from ..training.trainer import fit", "captioner.training.trainer.fit"),
        ("import importlib\nimportlib.import_module('captioner.training')", "captioner.training"),
        ("import importlib\nimportlib.import_module('..training', __package__)", "captioner.training"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import captioner.cli", "captioner.cli"),
    ],
)
def test_the_reader_sees_every_kind_of_import(source: str, found: str) -> None:
    assert found in imports(source, package="captioner.data")


def test_the_reader_tells_import_time_from_use() -> None:
    source = (
        "try:\n    import pyarrow\nexcept ImportError:\n    pyarrow = None\n"
        "if TYPE_CHECKING:\n    import tensorboard\nelse:\n    import pycocoevalcap\n"
        "class A:\n    import timm\n    def f(self):\n        import transformers\n"
    )
    assert imports(source, package="captioner", at_import=True) == {"pyarrow", "pycocoevalcap", "timm"}


@pytest.mark.parametrize(
    ("own_room", "imported", "allowed"),
    [
        ("data", "captioner.errors.DataError", True),
        ("data", "captioner.data.samples", True),
        ("data", "captioner.metrics.bleu", False),  # same floor
        ("metrics", "captioner.cli.main", False),  # upwards
        ("cli", "captioner.load", False),  # a public name: the roof
        ("cli", "captioner", False),
        ("__main__", "captioner.cli.main", True),
        ("__init__", "captioner.__main__", False),
        ("data", "captionerish.cli", True),
    ],
)
def test_the_rule_itself(own_room: str, imported: str, allowed: bool) -> None:
    assert (not broken_rules(own_room, [imported])) == allowed
