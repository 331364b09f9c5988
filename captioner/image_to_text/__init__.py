"""The ``image-to-text`` pipeline that transformers 5 removed: the same calls and results, with our captioners.

May import pipelines and the packages below it. Start reading at ``calls.py``.
"""

from captioner.image_to_text.calls import ImageToTextPipeline
from captioner.image_to_text.opening import pipeline

__all__ = ["ImageToTextPipeline", "pipeline"]
