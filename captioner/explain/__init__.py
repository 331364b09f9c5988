"""Explain: the model's image attention for each word of a caption, as arrays, as a picture and as a page.

May import captioning, checkpoint, html and the packages below them. Start at ``reading.py``, then ``explain.py``.
"""
