"""The decoding step in C, for x86 CPUs from SSE4.2 on and ARM CPUs: all blocks in one call, and its matrix products.

With torch operators, a step of an int8 decoder spends two thirds of its time in the main thread, which calls one
operator after the other. Wheels hold the library; installing from source compiles ``src`` if there is a compiler
(``setup.py``). ``src/kernels.h`` is compiled once for each level of CPU, and ``library.py`` chooses the highest that
runs. Without the library torch operators compute the same.
"""
