"""The Python interface: photos in, ``Caption`` objects out.

May import what captions, judges and explains, and nothing that trains. Start reading at ``pipeline.py``.
``series.py`` captions columns of tables, ``image_to_text/`` has transformers' calls, ``scale_out.py`` uses many
machines.
"""

from captioner.captioning.captions import Caption, GenerationOptions, Word
from captioner.pipelines.loading import load, prepared
from captioner.pipelines.origin import choose_device
from captioner.pipelines.pipeline import CaptionPipeline

__all__ = ["Caption", "CaptionPipeline", "GenerationOptions", "Word", "choose_device", "load", "prepared"]
