"""A training recipe: what to build, and the stages that train it. TOML, because people write it.

Precedence: the defaults below < the recipe file < ``--set stages.0.lr=3e-4``.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from captioner.config import (
    AdapterConfig,
    DecoderConfig,
    GenerationConfig,
    PreprocessConfig,
    VisionConfig,
    Words,
    check_seed,
    from_dict,
)
from captioner.errors import ConfigError, reason_of
from captioner.files import LONGEST_SETTINGS, regular_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One objective with its own length and rates.

    ``task``: a key of ``captioner.training.tasks.TASKS``. ``vision``: ``frozen``, ``all``, or ``last:N`` to train the
    backbone's last N groups of layers. ``epochs`` over the training images (or text lines); ``batch_size`` images per
    step over all processes, split into ``accumulate`` parts. Rates: ``lr`` for everything new, ``vision_lr`` for the
    backbone; both warm up over the share ``warmup`` of the steps and fall by a cosine to ``final_lr`` of their peak.
    ``depthwise``: train the kernels of depthwise convolutions too; on a CPU their gradient is a quarter of a step's
    time. ``ema``: decay of the weight average that is validated and saved, 0 for none. ``augment`` draws a new view
    of a photo each time. ``cache_features`` keeps on disk, for ``views`` views of each photo, the output of the
    backbone, or of its layers below the trained ones: the photo, its mirror image, and drawn ones from the third
    on. ``patience``: validations without a better score before the stage ends, 0 for never; ``validate_every``:
    epochs between them; ``epoch_steps``: steps after which an epoch counts as done, 0 for when its items are;
    ``options``: the task's own.
    """

    task: str = "cross_entropy"
    epochs: int = 10
    batch_size: int = 16
    accumulate: int = 1
    lr: float = 5e-4
    vision: str = "frozen"
    vision_lr: float = 1e-4
    warmup: float = 0.05
    final_lr: float = 0.02
    weight_decay: float = 0.05
    clip: float = 1.0
    label_smoothing: float = 0.1
    depthwise: bool = True
    ema: float = 0.0
    augment: bool = False
    cache_features: bool = False
    views: int = 2
    patience: int = 0
    validate_every: int = 1
    checkpointing: bool = False
    epoch_steps: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cache_features and (self.augment or self.vision == "all"):
            raise ConfigError(
                "cache_features keeps the output of layers that are not trained, for fixed views: use it with vision = "
                "'frozen' or 'last:N' and without augment"
            )
        if self.views < 2:
            raise ConfigError(
                f"stage setting views must be at least 2, the photo and its mirror image, not {self.views}"
            )
        last, _, groups = self.vision.partition(":")
        if self.vision not in ("frozen", "all") and not (last == "last" and groups.isdecimal() and int(groups) > 0):
            raise ConfigError(f"stage setting vision must be frozen, all or last:N, not {self.vision!r}")
        if self.epochs < 1 or self.batch_size < 1 or self.accumulate < 1 or self.validate_every < 1:
            raise ConfigError("epochs, batch_size, accumulate and validate_every must be at least 1")
        if self.batch_size < self.accumulate:
            raise ConfigError(f"a batch_size of {self.batch_size} cannot be split into accumulate = {self.accumulate}")
        for name in ("lr", "vision_lr", "weight_decay", "clip", "patience", "epoch_steps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"stage setting {name} must be 0 or more, not {getattr(self, name)}")
        for name in ("warmup", "final_lr", "label_smoothing", "ema"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"stage setting {name} must lie between 0 and 1, not {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Size:
    """A row of a recipe's ``[[sizes]]``: stage settings that suit a set of ``images`` training images or more.

    Of several rows that apply the one with the most images holds. It goes over the settings of every stage, and
    ``--set`` goes over it: how long to train and how fast depends on how much there is to learn from.
    """

    images: int
    stage: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TokenizerRecipe:
    """Byte-level BPE of at most ``vocab_size`` entries, learnt on the captions and the text of the run.

    ``source``: the directory or hub id of a GPT-2 whose tokenizer is taken instead. ``words``: what counts as a word
    where captions are scored; not ``ptb`` for languages without blanks, whose characters are then kept apart too.
    ``languages``: those that the captioner writes, the default one first, each with a start token of its own.
    """

    source: str | None = None
    vocab_size: int = 6000
    lowercase: bool = True
    words: Words = "ptb"
    languages: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The whole of a run but its data.

    ``vision_weights``: where the backbone starts; ``random``, ``timm`` (downloaded), a file, ``package:NAME`` for an
    installed package that carries one, or that of a captioner: its directory, or ``shipped``. ``validation_images``:
    how many held-out images are decoded per validation.
    ``decoder_weights``: ``random``, or the directory or hub id of a GPT-2 that the decoder starts from.
    ``captions_per_image``: K of a step. ``decoder``: ``DecoderConfig`` without its vocabulary. ``precision``: of the
    products under autocast; ``auto`` is bf16 where the hardware multiplies it (CUDA, CPUs with AMX), else fp32.
    ``adapter``: what alone is trained, on top of a captioner that stays as it is.
    """

    seed: int = 0
    vision_weights: str = "timm"
    decoder_weights: str = "random"
    captions_per_image: int = 5
    validation_images: int = 500
    workers: int = 2
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    vision: VisionConfig = field(default_factory=VisionConfig)
    decoder: Mapping[str, Any] = field(default_factory=dict)
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    tokenizer: TokenizerRecipe = field(default_factory=TokenizerRecipe)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    adapter: AdapterConfig | None = None
    stages: tuple[Stage, ...] = (Stage(),)

    def __post_init__(self) -> None:
        self.decoder_config(1)
        check_seed(self.seed)
        if not self.stages:
            raise ConfigError("a recipe needs at least one [[stages]] table")
        if self.captions_per_image < 1 or self.validation_images < 1 or self.workers < 0:
            raise ConfigError("captions_per_image and validation_images must be at least 1, and workers at least 0")

    def decoder_config(self, vocab_size: int) -> DecoderConfig:
        """The decoder for a tokenizer of ``vocab_size`` entries."""
        return from_dict(DecoderConfig, {**self.decoder, "vocab_size": vocab_size}, where="decoder.")


def load_recipe(name: str, settings: Sequence[str] = (), *, images: int | None = None) -> Recipe:
    """A recipe by the name of a shipped one or the path of a TOML file, with ``key=value`` settings applied.

    ``images``: how many there are to train on, where that is known; the recipe's row for such a set then applies.
    """
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise ConfigError(f"there is no recipe {name}; shipped are {known}, or name a .toml file")
    try:
        values = tomllib.loads(regular_text(path, most=LONGEST_SETTINGS))
    except (OSError, ValueError, RecursionError) as error:  # no TOML; too many digits; lists in lists in lists
        raise ConfigError(f"the recipe {path} cannot be read: {reason_of(error)}") from error
    for table in ("stages", "sizes"):
        rows = values.get(table, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ConfigError(f"the recipe {path} must write {table} as [[{table}]] tables")
    if row := _row(values, images):
        values["stages"] = [{**stage, **row.stage} for stage in values.get("stages", [{}])]
    for setting in settings:
        _apply(values, setting)
    return from_dict(Recipe, values)


def _row(values: dict[str, Any], images: int | None) -> Size | None:
    """Take the rows of sizes out of a recipe's values; the one for a set of ``images``, if there is one."""
    found = values.pop("sizes", [])
    rows = [from_dict(Size, row, where=f"sizes[{n}].") for n, row in enumerate(found)]
    for n, row in enumerate(rows):
        from_dict(Stage, row.stage, where=f"sizes[{n}].stage.")
    fitting = [row for row in rows if images is not None and row.images <= images]
    return max(fitting, key=lambda row: row.images, default=None)


def _apply(values: dict[str, Any], setting: str) -> None:
    """Write ``stages.0.lr=3e-4`` into the nested values; the value is JSON, or else a plain string."""
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {setting!r} must look like stages.0.lr=3e-4")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    *parents, last = key.split(".")
    place: Any = values
    for parent in parents:
        place = place[_index(place, parent, key)] if isinstance(place, list) else place.setdefault(parent, {})
        if not isinstance(place, (dict, list)):
            raise ConfigError(f"--set {key}: {parent} is a value, not a table")
    if isinstance(place, list):
        place[_index(place, last, key)] = value
    else:
        place[last] = value


def _index(items: list[Any], text: str, key: str) -> int:
    if not text.isdecimal() or int(text) >= len(items):
        raise ConfigError(f"--set {key}: {text} must be a number from 0 to {len(items) - 1}")
    return int(text)
