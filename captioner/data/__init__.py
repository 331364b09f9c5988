"""Reading folders and annotation files into samples, and samples into tensors.

May import errors and config only. Start reading at ``samples.py``, then ``sources/__init__.py``, then ``loader.py``.
"""
