"""Captioning: photos to captions, labels and embeddings, in batches, with a checkpoint.

May import generation, inference, data, metrics and the packages below them. Start reading at ``batches.py``;
``captions.py`` holds the results.
"""
