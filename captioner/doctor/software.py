"""The native library, torch, the other packages, and the extras."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from captioner.doctor.lines import Fact, Line, Warned
from captioner.errors import reason_of

PACKAGES = ("torchvision", "timm", "pillow", "numpy", "tokenizers", "safetensors", "huggingface_hub")
EXTRAS = {
    "train": ("accelerate", "nltk", "tensorboard"),
    "evaluate": ("nltk",),
    "finetune": ("accelerate", "nltk", "tensorboard", "peft"),
    "parquet": ("pyarrow",),
    "coco": ("pycocoevalcap",),
    "chinese": ("jieba",),
    "ray": ("ray",),
    "xmp": ("exiv2",),
    "heif": ("pillow-heif",),
    "video": ("av",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "transformers": ("transformers",),
    "serve": ("fastapi", "starlette", "uvicorn", "h11", "prometheus-client", "python-multipart"),
}
"""The packages of each extra, as in pyproject.toml."""
CPU_TORCH = "pip install --force-reinstall torch torchvision --index-url https://download.pytorch.org/whl/cpu"
AGAIN = "pip install --force-reinstall --no-deps . in the checkout (if editable: python setup.py build_ext --inplace)"
_OPENMP = re.compile(r"/(lib(?:gomp|iomp5|omp)\b[^/\s]*)$")


def native() -> Iterator[Line]:
    """Yield the level of the native library and the reason for it; warn if there is none."""
    from captioner.inference.precision import TORCH, faster
    from captioner.native.library import status

    found = status()
    name = "" if found.path is None else f" ({found.path.name})"
    reason = found.reason or "the highest level of this CPU and this library"
    yield Fact(name="native library", value=f"{found.level or 'torch operators alone'}{name}: {reason}")
    level = found.level or TORCH
    yield Fact(
        name="int8", value=f"{'may be' if faster('int8', level) else 'is not'} faster than fp32 at level {level}"
    )
    chosen = os.environ.get("CAPTIONER_CPU_LEVEL")
    if found.level and chosen and chosen.strip().lower() != found.level:
        yield Warned(problem=found.reason, remedy="choose one of these, or unset it")
    if found.level is None and (chosen or "").strip().lower() != TORCH:
        if chosen:
            remedy = "unset CAPTIONER_CPU_LEVEL"
        elif found.path is None:
            remedy = f"install captioner from a wheel, or where there is a C compiler: {AGAIN}"
        else:
            remedy = f"if this CPU is not the reason, install captioner again: {AGAIN}"
        yield Warned(problem=f"the native library is not used, so captions are slower: {found.reason}", remedy=remedy)


def torch_build() -> Iterator[Line]:
    """Yield torch's version and build, the speed of bf16, and the GPU; warn about a build for GPUs without one."""
    import torch

    from captioner.inference.precision import faster

    cuda = torch.version.cuda
    build = f"CUDA {cuda}" if cuda else f"ROCm {torch.version.hip}" if torch.version.hip else "CPU"
    capability = torch.backends.cpu.get_cpu_capability()
    yield Fact(name="torch", value=f"{torch.__version__}, build for {build}, operators for {capability}")
    yield Fact(name="bf16", value=f"{'may be faster' if faster('bf16') else 'is much slower'} than fp32 on this CPU")
    found = _gpus()
    yield Fact(name="GPU", value="; ".join(found) or "none")
    if cuda and not found:
        yield Warned(
            problem="torch is the build for CUDA (about 3 GB more), and no GPU can be used",
            remedy=f"install the driver of the GPU, or torch for the CPU: {CPU_TORCH}",
        )


def torchvision() -> Iterator[Line]:
    """Warn if torchvision cannot be imported: often torch is from another index than it."""
    try:
        import torchvision  # noqa: F401
    except Exception as error:
        yield Warned(
            problem=f"torchvision cannot be imported with this torch: {reason_of(error)}",
            remedy=f"install both from the same index, for the CPU: {CPU_TORCH}",
            fatal=True,
        )


def _gpus() -> list[str]:
    import torch

    if torch.backends.mps.is_available():
        return ["Apple's (mps)"]
    found = []
    for place in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(place)
        found.append(f"{properties.name}, {properties.total_memory / 1e9:.0f} GB")
    return found


def openmp() -> Iterator[Line]:
    """Yield the OpenMP libraries in this process; warn about more than one, since their threads compete."""
    import torch

    from captioner.native.library import status

    status()  # loads the library, with its OpenMP
    found = re.search(r"OpenMP .*", torch.__config__.parallel_info())
    loaded = _loaded(Path("/proc/self/maps"))
    names = ", ".join(sorted({path.rpartition("/")[2] for path in loaded}))
    yield Fact(name="OpenMP", value=f"{found[0] if found else 'none in torch'}{f': {names}' if names else ''}")
    if len(loaded) > 1:
        yield Warned(
            problem=f"{len(loaded)} OpenMP libraries are loaded ({names}), and their threads compete for the CPUs",
            remedy="install torch and captioner with pip into a new virtual environment, without LD_PRELOAD",
        )


def _loaded(maps: Path) -> set[str]:
    """Return the files of the OpenMP libraries in this process; empty on a system without /proc."""
    if sys.platform != "linux" or not maps.exists():
        return set()
    lines = maps.read_text(encoding="utf-8", errors="replace").splitlines()
    return {line[line.index("/") :] for line in lines if _OPENMP.search(line)}


def packages() -> Iterator[Line]:
    """Yield the versions of the other packages that a caption needs."""
    for name in PACKAGES:
        found = _version(name)
        yield Fact(name=name, value=found or "not installed")
        if found is None:
            yield Warned(
                problem=f"{name} is not installed, which a caption needs",
                remedy="pip install --upgrade captioner",
                fatal=True,
            )


def extras() -> Iterator[Line]:
    """Yield each extra with the versions of its packages, or the command that installs it."""
    for extra, names in EXTRAS.items():
        found = {name: _version(name) for name in names}
        missing = [name for name, known in found.items() if known is None]
        if missing:
            value = f"without {', '.join(missing)}: pip install 'captioner[{extra}]'"
        else:
            value = ", ".join(f"{name} {known}" for name, known in found.items())
        yield Fact(name=f"extra {extra}", value=value)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
