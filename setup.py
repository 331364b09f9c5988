"""All settings are in pyproject.toml; here is the one extension, of C alone, which may be missing.

    pip install -e .                        # builds it where there is a compiler, and goes on where there is none
    python setup.py build_ext --inplace     # builds it for a checkout that is used by PYTHONPATH

``captioner/native/library.py`` loads it, not Python's import: it has no module in it.
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
