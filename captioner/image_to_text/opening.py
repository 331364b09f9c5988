"""``captioner.pipeline("image-to-text")``: code that was written for transformers 4 runs after one changed import."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.checkpoint import Checkpoint
from captioner.errors import UsageError
from captioner.files import download, read_json
from captioner.hf_import import convert
from captioner.image_to_text.calls import ImageToTextPipeline
from captioner.pipelines import CaptionPipeline, choose_device, load, prepared

if TYPE_CHECKING:
    import torch

    from captioner.layers.linears import Precision

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
    """The pipeline that ``transformers.pipeline("image-to-text")`` was until version 5, with a captioner inside.

    ``model``: a checkpoint of captioner (directory or hub id), a ViT + GPT-2 captioner of transformers (converted on
    the way, as by ``captioner convert``), a pipeline or checkpoint in memory, or None for the model that ships.
    ``device``: a number is a CUDA device and -1 the CPU. ``dtype`` float32 (or "auto") is fp32, and both half types are
    bf16. Settings of transformers that change nothing here are taken and left; raises ``UsageError`` for any other, and
    for another task.
    """
    if task not in (None, "image-to-text"):
        raise UsageError(f"captioner has the task 'image-to-text', not {task!r}")
    _check_others(others, model)
    if device is not None and device_map is not None:
        raise UsageError("device and device_map both say where to compute; leave out one of the two")
    place = device_map if device is None else device
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
    if model is None:
        return load(device=device, precision=precision)
    if not isinstance(model, (str, os.PathLike)):
        raise UsageError(f"the model is named by its directory or hub id, not given as a {type(model).__name__}")
    name = os.fspath(model) + (f"@{revision}" if revision is not None else "")
    if _is_transformers(name):
        checkpoint = convert(name)
        checkpoint.model.to(choose_device(device))
        return prepared(checkpoint, precision)
    return load(name, device=device, precision=precision)


def _is_transformers(name: str) -> bool:
    """Whether it is a model of transformers; ``load`` has the words for what is neither."""
    if os.path.isdir(name):
        path = Path(name, "config.json")
        return path.exists() and "format" not in read_json(path)
    if os.path.exists(name) or name.partition("@")[0].count("/") != 1 or name.startswith((".", "/", "~")):
        return False
    return "format" not in read_json(download(name, ["config.json"]) / "config.json")


def _device(given: Any) -> str | None:
    if given is None or given == "auto":
        return None
    if isinstance(given, Mapping):
        raise UsageError("a captioner fits one device; name it by device='cuda:0' in place of a device_map")
    if isinstance(given, int):
        return "cpu" if given < 0 else f"cuda:{given}"
    return str(given)


def _precision(given: Any) -> Precision:
    name = str(given).removeprefix("torch.")
    if name in ("None", "auto", "float32", "fp32"):
        return "fp32"
    if name in ("float16", "bfloat16", "half", "fp16", "bf16"):
        return "bf16"
    if name == "int8":
        return "int8"
    raise UsageError(f"there is no dtype {given!r} here; choose float32 or bfloat16, or int8 on a CPU")


def _check_others(others: Mapping[str, Any], model: Any) -> None:
    for name, value in others.items():
        if name in _PARTS and isinstance(value, str) and value == model:
            continue
        if name in _PARTS and value is not None:
            raise UsageError(f"a captioner brings its own {name}; leave it out")
        if name == "token" and isinstance(value, str):
            raise UsageError("a token is not given here; log in with `hf auth login` or set HF_TOKEN")
        known = name in ("use_fast", "trust_remote_code", "num_workers", "token", *_PARTS)
        if not (known or (name == "framework" and value in ("pt", None)) or (name == "model_kwargs" and not value)):
            raise UsageError(f"the pipeline has no setting {name}={value!r}; leave it out")
