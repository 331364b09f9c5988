"""Captioners in the formats of other programs, as a directory each.

May import checkpoints and the packages below them. Start reading at ``export.py``, which holds the table of targets;
each target is a module or package of its own.
"""

from captioner.exporting.export import TARGETS, Target, export

__all__ = ["TARGETS", "Target", "export"]
