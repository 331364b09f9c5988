"""The ``image-to-text`` pipeline that version 5 of transformers left out: its calls and its answers, our captioners.

May import pipelines and what lies below. Start reading at ``calls.py``.
"""

from captioner.image_to_text.calls import ImageToTextPipeline
from captioner.image_to_text.opening import pipeline

__all__ = ["ImageToTextPipeline", "pipeline"]
