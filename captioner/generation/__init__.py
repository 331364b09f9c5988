"""Generation: from an image memory to captions, by searches over one decoding step.

May import models and what lies below. Start reading at ``search.py``.
"""
