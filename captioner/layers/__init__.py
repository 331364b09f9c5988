"""Layers: attention with its masks and KV cache, learned prefixes.

May import errors and config only. Start reading at ``attention.py``.
"""
