"""Layers: attention, its masks and its cache; everything that has weights but knows no images and no words.

May import errors and config only. Start reading at ``attention.py``.
"""
