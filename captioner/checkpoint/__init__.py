"""Checkpoints: a captioner as a directory of plain files, their model card, and the import of Hugging Face's.

May import models and the packages below them. Start reading at ``directory.py``, then ``loading.py``; ``hugging_face/``
converts others.
"""

from captioner.checkpoint.averaging import average
from captioner.checkpoint.directory import Base, Checkpoint, Restorable, merged, save
from captioner.checkpoint.loading import base_of, load

__all__ = ["Base", "Checkpoint", "Restorable", "average", "base_of", "load", "merged", "save"]
