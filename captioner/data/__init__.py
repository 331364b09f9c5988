"""Data: from folders and annotation files to samples, and from samples to batches of tensors.

May import errors and config only. Start reading at ``samples.py``, then ``sources/__init__.py``, then ``loader.py``.
"""
