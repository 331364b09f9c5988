"""Import: conversion of Hugging Face checkpoints to captioners, weight for weight, without transformers.

May import checkpoint and the packages below it. Start reading at ``vit_gpt2.py``.
"""

from captioner.hf_import.gpt2 import gpt2_tokenizer, load_gpt2
from captioner.hf_import.vit_gpt2 import convert

__all__ = ["convert", "gpt2_tokenizer", "load_gpt2"]
