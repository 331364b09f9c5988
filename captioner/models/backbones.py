"""A timm backbone built from untrusted settings.

``timm.create_model`` accepts paths and URLs of weights, functions and classes as arguments. A checkpoint must not
choose those, so only the arguments below reach timm: sizes, shapes, rates and switches, each a bounded number or a
list of such numbers.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from captioner.config import PreprocessConfig, VisionConfig
from captioner.errors import CaptionerError, ConfigError, quoted, reason_of

_SWITCH = 1  # True and False are 1 and 0
_DEEPEST = 256  # layers of one stage
_WIDEST = 16_384  # channels
_MOST_VALUES = 64  # in one argument, nested lists included

ARGUMENTS: Mapping[str, float] = {
    # the image and its patches
    "img_size": 4096,
    "patch_size": 256,
    "output_stride": 64,
    "window_size": 256,
    "strict_img_size": _SWITCH,
    "dynamic_img_size": _SWITCH,
    "dynamic_img_pad": _SWITCH,
    # depth
    **dict.fromkeys(("depth", "depths", "layers", "num_blocks"), _DEEPEST),
    # width
    **dict.fromkeys(("embed_dim", "embed_dims", "dims", "channels", "widths", "hidden_size"), _WIDEST),
    **dict.fromkeys(("stem_size", "stem_width", "base_width", "base_dim", "head_dim", "head_hidden_size"), _WIDEST),
    **dict.fromkeys(("num_heads", "heads", "num_kv_heads", "cardinality", "groups"), 1024),
    **dict.fromkeys(("mlp_ratio", "mlp_ratios", "attn_ratio", "expand_ratio"), 64),
    # tokens before the patches, position embeddings
    "class_token": _SWITCH,
    **dict.fromkeys(("use_abs_pos_emb", "use_rel_pos_bias", "use_shared_rel_pos_bias"), _SWITCH),
    "reg_tokens": 1024,
    "no_embed_class": _SWITCH,
    # biases, norms, and the scale of residual branches
    **dict.fromkeys(("qkv_bias", "proj_bias", "qk_norm", "pre_norm", "final_norm", "fc_norm", "conv_mlp"), _SWITCH),
    "use_fc_norm": _SWITCH,
    **dict.fromkeys(("init_values", "ls_init_value", "layer_scale_init_value", "norm_eps"), 10),
    # dropout rates
    **dict.fromkeys(("drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate"), 1),
    **dict.fromkeys(("drop_path_rate", "drop_block_rate"), 1),
}
"""The arguments allowed in ``vision.backbone_args``, each with its largest value."""


def import_timm() -> Any:
    """Import timm, which takes five seconds. Raises ``CaptionerError`` if torchvision does not fit torch."""
    try:
        import timm
    except (ImportError, OSError, RuntimeError) as error:
        raise CaptionerError(
            f"timm cannot be imported ({reason_of(error)}); install torch and torchvision again, both from the same "
            "index as in the README, then timm"
        ) from error
    return timm


def build_backbone(config: VisionConfig, preprocess: PreprocessConfig) -> nn.Module:
    """Build the backbone that ``config`` names, with random weights.

    Raises ``ConfigError`` for a name that timm does not know and for arguments that are not allowed or do not fit.
    """
    timm = import_timm()
    name = config.backbone
    if not re.fullmatch(r"\w+(\.[\w.-]+)?", name) or not timm.is_model(name):
        raise ConfigError(f"vision.backbone {quoted(name)} is not a model of timm {timm.__version__}")
    args = backbone_args(config, preprocess)
    try:
        backbone: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **args)
    except Exception as error:  # each timm family fails on wrong sizes in its own way
        raise ConfigError(f"timm cannot build {name!r} with these arguments: {reason_of(error)}") from error
    return backbone


def backbone_args(config: VisionConfig, preprocess: PreprocessConfig) -> dict[str, object]:
    """Return the checked ``config.backbone_args``, with the input size for families that fix positions at construction.

    Raises ``ConfigError`` for an argument outside ``ARGUMENTS`` and for a value that is too large or not a number.
    """
    timm = import_timm()
    args = dict(config.backbone_args)
    for name, value in args.items():
        _check(name, value)
    known = timm.get_pretrained_cfg(config.backbone)
    if known is not None and known.fixed_input_size:  # other models reject img_size
        args.setdefault("img_size", preprocess.size)
    return args


def _check(name: str, value: object) -> None:
    if name not in ARGUMENTS:
        near = difflib.get_close_matches(name[:80], ARGUMENTS, n=1, cutoff=0)[0]
        raise ConfigError(
            f"vision.backbone_args does not allow {quoted(name)}; did you mean {near}? Only sizes, rates and switches "
            "are passed to timm"
        )
    limit = ARGUMENTS[name]
    for count, number in enumerate(_numbers(value), 1):
        fits = isinstance(number, (int, float)) and 0 <= number <= limit
        if number is not None and not (fits and count <= _MOST_VALUES):
            raise ConfigError(
                f"vision.backbone_args.{name} must be a number from 0 to {limit:g} or a list of at most {_MOST_VALUES} "
                f"such numbers, not {quoted(value)}"
            )


def _numbers(value: object, depth: int = 0) -> Iterator[object]:
    """Yield the leaves of nested lists; a list nested deeper than any timm argument is yielded whole."""
    if isinstance(value, (list, tuple)) and depth < 3:
        for inner in value:
            yield from _numbers(inner, depth + 1)
    else:
        yield value
