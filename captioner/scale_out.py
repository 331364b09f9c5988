"""The former place of ``captioner.pipelines.scale_out``, kept for one release."""

from captioner.pipelines.scale_out import caption_dataset

__all__ = ["caption_dataset"]
