"""Generation: from an image memory to captions, by search strategies over one decoding step.

May import models and the packages below it. Start reading at ``search.py``.
"""
