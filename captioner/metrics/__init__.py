"""Metrics: captions against references, on the 0 to 100 scale, without torch.

May import errors only. Start reading at ``words.py`` (what a word is), then ``bleu.py`` and ``cider.py``.
"""
