"""Import: conversion of Hugging Face checkpoints to captioners, weight for weight, without transformers.

May import what ``captioner.checkpoint`` may, and that package itself. Start reading at ``vit_gpt2.py``;
``encoders/`` has the vision encoders.
"""

from captioner.checkpoint.hugging_face.gpt2 import gpt2_tokenizer, load_gpt2
from captioner.checkpoint.hugging_face.vit_gpt2 import convert

__all__ = ["convert", "gpt2_tokenizer", "load_gpt2"]
