"""The ``image-to-text`` pipeline that transformers 5 removed: the same calls and results, with our captioners.

May import what ``captioner.pipelines`` may, and that package itself. Start reading at ``calls.py``.
"""

from captioner.pipelines.image_to_text.calls import ImageToTextPipeline
from captioner.pipelines.image_to_text.opening import pipeline

__all__ = ["ImageToTextPipeline", "pipeline"]
