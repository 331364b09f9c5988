"""Image captioning that people can install, train, evaluate and embed.

::

    import captioner

    pipe = captioner.load()
    print(pipe.caption("dog.jpg"))

Every name below is imported on first use, so ``import captioner`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from captioner.version import __version__

if TYPE_CHECKING:
    from captioner.captioning.captions import Caption
    from captioner.captioning.word_list import word_list
    from captioner.checkpoint import Checkpoint, save
    from captioner.errors import CaptionerError, ImageError
    from captioner.evaluation.evaluate import evaluate
    from captioner.exporting import export
    from captioner.folder.call import caption_folder
    from captioner.hub import push_to_hub
    from captioner.pipelines import CaptionPipeline, load
    from captioner.pipelines.image_to_text import pipeline
    from captioner.pipelines.series import caption_series

_NAMES = {
    "Caption": "captioner.captioning.captions",
    "CaptionPipeline": "captioner.pipelines",
    "CaptionerError": "captioner.errors",
    "Checkpoint": "captioner.checkpoint",
    "ImageError": "captioner.errors",
    "caption_folder": "captioner.folder.call",
    "caption_series": "captioner.pipelines.series",
    "evaluate": "captioner.evaluation.evaluate",
    "export": "captioner.exporting",
    "load": "captioner.pipelines",
    "pipeline": "captioner.pipelines.image_to_text",
    "push_to_hub": "captioner.hub",
    "save": "captioner.checkpoint",
    "word_list": "captioner.captioning.word_list",
}

__all__ = [
    "Caption",
    "CaptionPipeline",
    "CaptionerError",
    "Checkpoint",
    "ImageError",
    "__version__",
    "caption_folder",
    "caption_series",
    "evaluate",
    "export",
    "load",
    "pipeline",
    "push_to_hub",
    "save",
    "word_list",
]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'captioner' has no attribute {name!r}")
    return getattr(importlib.import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return __all__
