"""Configuration dataclasses, and their strict conversion from and to plain dicts.

The ``config.json`` of a checkpoint is a ``CaptionerConfig``, its ``generation.json`` a ``GenerationConfig``. Training
recipes (``captioner.training.recipe``) use the same ``from_dict``.
"""

from captioner.config.decoder import Activation, DecoderConfig, MixedInit
from captioner.config.generation import (
    Calibration,
    GenerationConfig,
    GenerationOption,
    generation_options,
    with_options,
)
from captioner.config.model import (
    AdapterConfig,
    CaptionerConfig,
    ClassifierConfig,
    HeadsConfig,
    LabelsConfig,
    TextConfig,
    Words,
)
from captioner.config.option import Option
from captioner.config.rules import WordRules, contains_phrase, in_word, is_text, one_word
from captioner.config.sampling import SamplingConfig, check_seed
from captioner.config.schema import (
    from_dict,
    to_dict,
)
from captioner.config.vision import PreprocessConfig, VisionConfig

__all__ = [
    "Activation",
    "AdapterConfig",
    "Calibration",
    "CaptionerConfig",
    "ClassifierConfig",
    "DecoderConfig",
    "GenerationConfig",
    "GenerationOption",
    "HeadsConfig",
    "LabelsConfig",
    "MixedInit",
    "Option",
    "PreprocessConfig",
    "SamplingConfig",
    "TextConfig",
    "VisionConfig",
    "WordRules",
    "Words",
    "check_seed",
    "contains_phrase",
    "from_dict",
    "generation_options",
    "in_word",
    "is_text",
    "one_word",
    "to_dict",
    "with_options",
]
