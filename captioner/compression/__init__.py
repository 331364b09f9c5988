"""Smaller captioners: fewer words, fewer heads and hidden units; ``checkpoint/packing.py`` stores them in fewer bits.

Start reading at ``compress.py``, which does all of it in order.
"""

from captioner.compression.compress import Compression, Pruning, compress
from captioner.compression.vocabulary import keep_tokens, trim_vocabulary

__all__ = ["Compression", "Pruning", "compress", "keep_tokens", "trim_vocabulary"]
