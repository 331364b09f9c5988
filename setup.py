"""The optional C extension; all other settings are in pyproject.toml.

    pip install -e .                        # builds it if there is a compiler, and works without one
    python setup.py build_ext --inplace     # builds it for a checkout on PYTHONPATH

``captioner/native/library.py`` loads it as a shared library: it contains no Python module.
"""

from setuptools import Extension, setup

SOURCE = "captioner/native/src/"

setup(
    ext_modules=[
        Extension(
            "captioner.native._step",
            sources=[SOURCE + name for name in ("amx.c", "attention.c", "fp32.c", "largest.c", "library.c")]
            + [SOURCE + name for name in ("products.c", "rows.c", "step.c", "vnni.c")],
            depends=[SOURCE + name for name in ("dequantize.h", "lanes.h", "native.h", "plan.h", "tiles.h")],
            extra_compile_args=["-std=gnu11", "-O3", "-g0", "-fopenmp"],
            extra_link_args=["-fopenmp"],
            libraries=["m"],
            optional=True,
        )
    ]
)
