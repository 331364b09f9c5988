"""The ``image-to-text`` pipeline that version 5 of transformers left out: its calls and its answers, our captioners.

May import pipelines and what lies below. Start reading at ``pipeline.py``.
"""

from captioner.image_to_text.opening import pipeline
from captioner.image_to_text.pipeline import ImageToTextPipeline

__all__ = ["ImageToTextPipeline", "pipeline"]
