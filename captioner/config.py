"""What a captioner is made of, as frozen dataclasses with a strict way from and to plain dicts.

A checkpoint's ``config.json`` is one ``CaptionerConfig``; its ``generation.json`` one ``GenerationConfig``. Training
has recipes of its own (``captioner.training.recipe``) on the same ``from_dict``.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from captioner.errors import ConfigError

Aspect = Literal["squash", "crop", "pad"]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """How a photo becomes the pixels that the backbone was trained on; it travels with the weights.

    ``size``: side of the square input, pixels. ``aspect``: ``squash`` resizes both sides, ``crop`` keeps the centre
    square, ``pad`` keeps everything and fills the rest with the mean colour. ``mean``, ``std``: per channel, on 0 to 1.
    """

    size: int = 288
    aspect: Aspect = "squash"
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        _at_least_one(self, "preprocess", "size")
        if min(self.std) <= 0:
            raise ConfigError(f"preprocess.std must be above 0, not {self.std}")


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """A timm backbone and how its features become patch tokens of the decoder's width.

    ``backbone_args`` go to ``timm.create_model``. ``norm`` and ``positions`` (LayerNorm over the features, learned
    positions over the grid) and ``project`` (a linear map to the decoder's width) are off where an imported checkpoint
    has none of its own. ``norm_eps`` overrides the epsilon of the backbone's LayerNorms (Hugging Face ViT: 1e-12).
    """

    backbone: str = "tf_efficientnet_lite2"
    backbone_args: Mapping[str, Any] = field(default_factory=dict)
    norm: bool = True
    positions: bool = True
    project: bool = True
    norm_eps: float | None = None


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A GPT-2 decoder with cross-attention (Radford et al. 2019).

    ``self_pattern`` and ``cross_pattern`` are tiled over the layers: G reads globally, L locally, M mixes both by a
    learned gate. ``local_words`` is the width of the local window in tokens, the current one included. ``cross_gate``
    multiplies the cross block by tanh of a scalar that starts at zero (Alayrac et al. 2022, Flamingo).
    """

    vocab_size: int
    context: int = 64
    width: int = 384
    layers: int = 4
    heads: int = 6
    mlp_width: int | None = None
    dropout: float = 0.1
    self_pattern: str = "G"
    cross_pattern: str = "G"
    local_words: int = 4
    cross_gate: bool = False
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "context", "width", "layers", "heads", "local_words")
        _at_least_one(self, "decoder", *sizes, *(["mlp_width"] if self.mlp_width is not None else []))
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"decoder.dropout must be at least 0 and below 1, not {self.dropout}")
        if self.width % self.heads:
            raise ConfigError(f"decoder.width {self.width} is not a multiple of decoder.heads {self.heads}")
        for name in ("self_pattern", "cross_pattern"):
            pattern = getattr(self, name)
            if not pattern or set(pattern) - set("GLM"):
                raise ConfigError(f"decoder.{name} {pattern!r} must be made of the letters G, L and M")


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The token ids that start, end and fill a caption, and whether text is put in lower case before encoding."""

    bos_id: int
    eos_id: int
    pad_id: int
    lowercase: bool = True


@dataclass(frozen=True, kw_only=True)
class CaptionerConfig:
    """Everything needed to build the model of a checkpoint, weights aside."""

    vision: VisionConfig
    decoder: DecoderConfig
    text: TextConfig
    preprocess: PreprocessConfig


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """Decoding defaults. ``beams`` 1 is greedy; ``max_tokens`` counts the end token, not the start token.

    A finished caption is ranked by its log-probability over ``length ** length_penalty``, its end token counted
    (Wu et al. 2016 in Hugging Face's simpler form); 0 ranks by the plain sum.
    """

    beams: int = 1
    max_tokens: int = 32
    length_penalty: float = 0.0

    def __post_init__(self) -> None:
        _at_least_one(self, "generation", "beams", "max_tokens")


def _at_least_one(config: object, table: str, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ConfigError(f"{table}.{name} must be at least 1, not {getattr(config, name)}")


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain dicts, lists and scalars, ready for JSON."""
    return typing.cast(dict[str, Any], _plain(config))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def from_dict(kind: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """Build the dataclass ``kind`` from plain values, strictly.

    ``where`` names the place in messages (``decoder.``). Raises ``ConfigError`` for an unknown key (naming the nearest
    known one), a missing one, or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where.rstrip('.') or kind.__name__} must be a table of settings, not {values!r}")
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, kind))}
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0)
            raise ConfigError(f"unknown setting {where}{key}; did you mean {where}{near[0]}?")
    for name, spec in fields.items():
        required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ConfigError(f"setting {where}{name} is missing")
    return kind(**{key: _convert(hints[key], value, f"{where}{key}") for key, value in values.items()})


def _convert(hint: Any, value: Any, name: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, name)
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{name} must be one of {', '.join(map(str, args))}, not {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{name} must be a list, not {value!r}")
        inner = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(inner) != len(value):
            raise ConfigError(f"{name} must have {len(inner)} values, not {len(value)}")
        return tuple(_convert(a, v, f"{name}[{i}]") for i, (a, v) in enumerate(zip(inner, value, strict=True)))
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(Any, hint), value, where=f"{name}.")
    if hint is Any:
        return value
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name} must be a table of settings, not {value!r}")
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and (not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)):
        raise ConfigError(f"{name} must be a {hint.__name__}, not {value!r}")
    return value
