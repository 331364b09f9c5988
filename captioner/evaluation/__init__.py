"""Evaluation: scores of a model's captions and probabilities on a dataset, with the settings that they depend on.

May import captioning, checkpoint, metrics and everything below them. Start reading at ``evaluate.py``.
"""
