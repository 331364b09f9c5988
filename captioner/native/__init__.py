"""The decoding step of an x86 CPU in C: all blocks in one call, and the products it is made of.

Written as operators of torch, a step of an int8 decoder spends two thirds of its time in the main thread, which calls
one after the other. ``src`` is compiled when the package is installed and there is a compiler (``setup.py``); where
there was none, or the CPU is another one, the operators of torch do the same.
"""
