"""Smaller captioners: fewer words, fewer heads and hidden units; ``checkpoint/packing.py`` stores them in fewer bits.

Start reading at ``compress.py``, which does all of it in order.
"""

from captioner.compression.compress import Compression, Pruning, compress
from captioner.compression.vocabulary import trim_vocabulary

__all__ = ["Compression", "Pruning", "compress", "trim_vocabulary"]
