"""Import: Hugging Face checkpoints as captioners of this package, weight for weight, without transformers.

May import checkpoint and what lies below. Start reading at ``vit_gpt2.py``.
"""

from captioner.hf_import.gpt2 import gpt2_tokenizer, load_gpt2
from captioner.hf_import.vit_gpt2 import convert

__all__ = ["convert", "gpt2_tokenizer", "load_gpt2"]
