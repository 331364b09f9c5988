"""Registration with the auto classes of transformers."""

from __future__ import annotations

from inspect import signature

import transformers

from captioner.transformers.configuration import CaptionerConfig
from captioner.transformers.modeling import CaptionerForConditionalGeneration
from captioner.transformers.processing import CaptionerImageProcessor, CaptionerProcessor

# The name of images to text was Vision2Seq before transformers 5.
_MODELS = ("AutoModel", "AutoModelForImageTextToText", "AutoModelForVision2Seq")


def register() -> None:
    """Register the captioner; calling it again changes nothing."""
    transformers.AutoConfig.register(CaptionerConfig.model_type, CaptionerConfig, exist_ok=True)
    for name in _MODELS:
        if (auto := getattr(transformers, name, None)) is not None:
            auto.register(CaptionerConfig, CaptionerForConditionalGeneration, exist_ok=True)
    transformers.AutoProcessor.register(CaptionerConfig, CaptionerProcessor, exist_ok=True)
    auto = transformers.AutoImageProcessor
    if "image_processor_classes" in signature(auto.register).parameters:  # transformers 5
        backends = dict.fromkeys(("pil", "torchvision"), CaptionerImageProcessor)
        auto.register(CaptionerConfig, image_processor_classes=backends, exist_ok=True)
    else:
        auto.register(CaptionerConfig, slow_image_processor_class=CaptionerImageProcessor, exist_ok=True)
    transformers.AutoTokenizer.register(
        CaptionerConfig, fast_tokenizer_class=transformers.PreTrainedTokenizerFast, exist_ok=True
    )
