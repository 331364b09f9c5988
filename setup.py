"""The optional C extension; all other settings are in pyproject.toml.

    pip install -e .                        # builds it if there is a compiler, and works without one
    python setup.py build_ext --inplace     # builds it for a checkout on PYTHONPATH

``captioner/native/library.py`` loads it as a shared library: it contains no Python module.
"""

from pathlib import Path

from setuptools import Extension, setup

SOURCES = Path("captioner/native/src")

setup(
    ext_modules=[
        Extension(
            "captioner.native._step",
            sources=sorted(map(str, SOURCES.glob("*.c"))),
            depends=sorted(map(str, SOURCES.glob("*.h"))),
            extra_compile_args=["-std=gnu11", "-O3", "-g0", "-fopenmp"],
            extra_link_args=["-fopenmp"],
            libraries=["m"],
            optional=True,
        )
    ]
)
