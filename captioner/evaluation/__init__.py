"""Evaluation: a model's captions and probabilities on a dataset, as figures with all that they depend on.

May import generation, checkpoint, metrics and what lies below. Start reading at ``evaluate.py``.
"""
