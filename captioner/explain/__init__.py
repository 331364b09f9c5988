"""Explain: for each word of a caption where the model looked, as arrays, as a picture and as a page.

May import generation, checkpoint and what lies below. Start at ``reading.py``, then ``explain.py``.
"""
