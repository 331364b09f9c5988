"""Metrics: scores of captions against references, from 0 to 100, without torch.

May import errors and config. Start reading at ``words.py`` (word splitting), then ``bleu.py`` and ``cider.py``; for
scores of many rows and their intervals, at ``ngrams.py`` and ``statistic.py``. ``nouns.py`` finds label words.
"""
