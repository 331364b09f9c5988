"""Generation: from an image memory to captions, by search strategies over one decoding step.

May import models, metrics and the packages below them; it needs neither data nor checkpoint. Start reading
at ``search.py``.
"""
