"""The function ``captioner.pipeline("image-to-text")``: code for transformers 4 runs after one changed import."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from captioner.checkpoint import Checkpoint
from captioner.errors import UsageError
from captioner.pipelines import CaptionPipeline, load
from captioner.pipelines.image_to_text.calls import ImageToTextPipeline

if TYPE_CHECKING:
    import torch

    from captioner.inference import Precision

_PARTS = ("config", "tokenizer", "feature_extractor", "image_processor", "processor")


def pipeline(
    task: str | None = "image-to-text",
    model: str | os.PathLike[str] | CaptionPipeline | Checkpoint | None = None,
    *,
    revision: str | None = None,
    device: int | str | torch.device | None = None,
    device_map: int | str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    torch_dtype: str | torch.dtype | None = None,
    batch_size: int | None = None,
    max_new_tokens: int | None = None,
    generate_kwargs: Mapping[str, Any] | None = None,
    prompt: str | None = None,
    timeout: float | None = None,
    **others: Any,
) -> ImageToTextPipeline:
    """Build the equivalent of ``transformers.pipeline("image-to-text")``, which transformers 5 removed.

    ``model``: a checkpoint of captioner, or of transformers, which is converted on first use (directory or hub id), a
    pipeline or checkpoint in memory, or None for the shipped model.
    ``device``: a number is a CUDA device, -1 the CPU. ``dtype``: float32 or "auto" is fp32, both half types are bf16. A
    model in memory takes none of these, nor a ``revision``.
    Settings of transformers without effect here are ignored. Raises ``UsageError`` for other settings and other tasks.
    """
    if task not in (None, "image-to-text"):
        raise UsageError(f"captioner supports only the task 'image-to-text', not {task!r}")
    _check_others(others, model)
    if device is not None and device_map is not None:
        raise UsageError("device and device_map both select a device; omit one of them")
    place = device_map if device is None else device
    if isinstance(model, (CaptionPipeline, Checkpoint)):
        settings = {"revision": revision, "device": device, "device_map": device_map}
        for name, value in {**settings, "dtype": dtype, "torch_dtype": torch_dtype}.items():
            if value not in (None, "auto"):
                raise UsageError(f"a model in memory stays as it is; omit {name}, or name its directory or hub id")
    pipe = _pipe(model, revision, _device(place), _precision(torch_dtype if dtype is None else dtype))
    return ImageToTextPipeline(
        pipe,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        generate_kwargs=generate_kwargs,
        prompt=prompt,
        timeout=timeout,
    )


def _pipe(model: Any, revision: str | None, device: str | None, precision: Precision) -> CaptionPipeline:
    if isinstance(model, CaptionPipeline):
        return model
    if isinstance(model, Checkpoint):
        return CaptionPipeline(model)
    if not isinstance(model, (str, os.PathLike, type(None))):
        raise UsageError(f"model must be a directory, hub id, pipeline or checkpoint, not a {type(model).__name__}")
    return load(model, device=device, precision=precision, revision=revision)


def _device(device: Any) -> str | None:
    if device is None or device == "auto":
        return None
    if isinstance(device, Mapping):
        raise UsageError("a captioner runs on one device; use device='cuda:0' instead of a device_map")
    if isinstance(device, int):
        return "cpu" if device < 0 else f"cuda:{device}"
    return str(device)


def _precision(dtype: Any) -> Precision:
    name = str(dtype).removeprefix("torch.")
    if name in ("None", "auto", "float32", "fp32"):
        return "fp32"
    if name in ("float16", "bfloat16", "half", "fp16", "bf16"):
        return "bf16"
    if name == "int8":
        return "int8"
    raise UsageError(f"unsupported dtype {dtype!r}; choose float32 or bfloat16, or int8 on a CPU")


def _check_others(others: Mapping[str, Any], model: Any) -> None:
    for name, value in others.items():
        if name in _PARTS and isinstance(value, str) and value == model:
            continue
        if name in _PARTS and value is not None:
            raise UsageError(f"a captioner includes its own {name}; omit it")
        if name == "token" and isinstance(value, str):
            raise UsageError("the pipeline takes no token; log in with `hf auth login` or set HF_TOKEN")
        known = name in ("use_fast", "trust_remote_code", "num_workers", "token", *_PARTS)
        if not (known or (name == "framework" and value in ("pt", None)) or (name == "model_kwargs" and not value)):
            raise UsageError(f"the pipeline has no setting {name}={value!r}; omit it")
