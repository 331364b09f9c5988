"""The decoding step for x86 CPUs in C: all blocks in one call, and its matrix products.

With torch operators, a step of an int8 decoder spends two thirds of its time in the main thread, which calls one
operator after the other. Installing the package compiles ``src`` if there is a compiler (``setup.py``). Without the
library, or on another CPU, torch operators compute the same.
"""
