"""Metrics: captions against references, on the 0 to 100 scale, without torch.

May import errors and config. Start reading at ``words.py`` (what a word is), then ``bleu.py`` and ``cider.py``; scores
of many rows and their intervals begin at ``ngrams.py`` and ``statistic.py``.
"""
