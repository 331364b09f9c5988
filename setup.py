"""The optional C extension; all other settings are in pyproject.toml.

    pip install -e .                        # builds it if there is a compiler, and works without one
    python setup.py build_ext --inplace     # builds it for a checkout on PYTHONPATH

``captioner/native/library.py`` loads it as a shared library: it contains no Python module.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

SOURCES = Path("captioner/native/src")
FUNCTIONS = ["multiply", "step", "largest", "sharpen", "supports", "size"]
# All use the OpenMP that torch brings; on macOS the library finds it when it is loaded, so it is not linked.
UNIX = {
    "extra_compile_args": ["-std=gnu11", "-O3", "-g0", "-fopenmp"],
    "extra_link_args": ["-fopenmp"],
    "libraries": ["m"],
}
MACOS = {"extra_compile_args": ["-std=gnu11", "-O3", "-g0", "-Xpreprocessor", "-fopenmp"]}
WINDOWS = {"extra_compile_args": ["/std:c11", "/O2", "/openmp:llvm"]}
REQUIRED = os.environ.get("CAPTIONER_NATIVE") == "required"  # wheels for others: a failed compilation ends the build


class Wheel(bdist_wheel):
    """One wheel per platform, for every Python: the library does not use Python's ABI."""

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


class Library(build_ext):
    """A shared library for ctypes: no Python version in its name, and no ``PyInit`` function to export."""

    def get_ext_filename(self, fullname):
        return os.path.join(*fullname.split(".")) + (".pyd" if os.name == "nt" else ".so")

    def get_export_symbols(self, ext):
        return ext.export_symbols


setup(
    cmdclass={"bdist_wheel": Wheel, "build_ext": Library},
    ext_modules=[
        Extension(
            "captioner.native._step",
            sources=sorted(map(str, SOURCES.glob("*.c"))),
            depends=sorted(map(str, SOURCES.glob("*.h"))),
            export_symbols=[f"captioner_{name}" for name in FUNCTIONS],
            optional=not REQUIRED,
            **{"darwin": MACOS, "win32": WINDOWS}.get(sys.platform, UNIX),
        )
    ],
)
