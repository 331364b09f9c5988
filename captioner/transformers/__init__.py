"""Captioners as models of Hugging Face's transformers, registered with its auto classes when this package is imported.

::

    import captioner.transformers
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained("OUT")  # captioner export MODEL OUT --to transformers
    processor = AutoProcessor.from_pretrained("OUT")
    tokens = model.generate(**processor(images="dog.jpg"))
    print(processor.batch_decode(tokens, skip_special_tokens=True))

``Trainer``, ``push_to_hub`` and pipelines work with them, and nothing needs ``trust_remote_code``. It is the only
package that imports transformers on import. May import everything below, and ``captioner.pipelines`` for the names of
options.
"""

from captioner.errors import require

require("transformers", "transformers", "captioner.transformers")

from captioner.transformers.configuration import CaptionerConfig  # noqa: E402  (after the check)
from captioner.transformers.modeling import CaptionerForConditionalGeneration  # noqa: E402
from captioner.transformers.processing import CaptionerImageProcessor, CaptionerProcessor  # noqa: E402
from captioner.transformers.registration import register  # noqa: E402
from captioner.transformers.saving import export, pretrained_model, pretrained_processor  # noqa: E402

register()

__all__ = [
    "CaptionerConfig",
    "CaptionerForConditionalGeneration",
    "CaptionerImageProcessor",
    "CaptionerProcessor",
    "export",
    "pretrained_model",
    "pretrained_processor",
]
