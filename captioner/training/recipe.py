"""A training recipe in TOML: the model, and the stages that train it.

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

from captioner.checkpoint.files import LONGEST_SETTINGS, regular_text
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

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One objective with its own length and learning rates.

    Both learning rates warm up and then fall by a cosine::

        Stage(task="cross_entropy", epochs=20, lr=5e-4, vision="last:2", vision_lr=1e-4, ema=0.998)
    """

    task: str = "cross_entropy"  # a key of captioner.training.tasks.TASKS
    epochs: int = 10  # over the training images (or text lines)
    batch_size: int = 16  # images per step over all processes
    accumulate: int = 1  # parts of a step
    lr: float = 5e-4  # peak learning rate of all parameters outside the backbone
    vision: str = "frozen"  # trained layers of the backbone: frozen, all, or last:N for its last N groups
    only: tuple[str, ...] = ()  # parts of the names of the parameters to train outside the backbone; none for all
    vision_lr: float = 1e-4  # peak learning rate of the backbone
    warmup: float = 0.05  # share of the steps
    final_lr: float = 0.02  # final learning rate, a share of the peak
    weight_decay: float = 0.05
    clip: float = 1.0  # largest norm of the gradient, 0 for no limit
    label_smoothing: float = 0.1
    depthwise: bool = True  # train depthwise kernels too; on a CPU their gradient is a quarter of a step's time
    ema: float = 0.0  # decay of the EMA of the weights, which is validated and saved; 0 for none
    augment: bool = False  # draw a new view of a photo each time
    cache_features: bool = False  # keep the output of the backbone, or of its layers below the trained ones, on disk
    views: int = 2  # cached views of each photo: the photo, its mirror image, and drawn ones
    patience: int = 0  # validations without a better score before the stage ends, 0 for never
    validate_every: int = 1  # epochs between validations
    checkpointing: bool = False  # recompute activations in the backward pass
    epoch_steps: int = 0  # steps of an epoch, 0 for all its items
    options: Mapping[str, Any] = field(default_factory=dict)  # the task's own settings

    def __post_init__(self) -> None:
        if self.cache_features and (self.augment or self.vision == "all"):
            raise ConfigError(
                "cache_features stores the output of untrained layers for fixed views; use it with vision = 'frozen' "
                "or 'last:N' and without augment"
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
    """A row of a recipe's ``[[sizes]]``: stage settings for larger training sets.

    If several rows apply, the one with the most images wins. It overrides the settings of every stage, and ``--set``
    overrides it: the best length and learning rate depend on the size of the training set.
    """

    images: int  # the least number of training images
    stage: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TokenizerRecipe:
    """Byte-level BPE, learnt on the captions and the text of the run."""

    source: str | None = None  # the directory or hub id of a GPT-2 whose tokenizer to use instead
    vocab_size: int = 6000  # at most
    lowercase: bool = True
    words: Words = "ptb"  # how metrics split words; not ptb for scripts without spaces, and BPE then splits characters
    languages: tuple[str, ...] = ()  # languages of the captions, the default first; each has its own start token


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings of a training run.

    ::

        recipe = load_recipe("flickr8k", ["stages.0.epochs=5"])
        recipe = Recipe(vision_weights="random", stages=(Stage(epochs=1), Stage(task="self_critical", lr=1e-5)))
    """

    seed: int = 0
    vision_weights: str = "timm"
    """The source of the backbone's weights: ``random``, ``timm`` (downloaded), a file, ``package:NAME`` for an
    installed package with a weight file, the directory of a captioner, or ``shipped``."""
    decoder_weights: str = "random"  # or the directory or hub id of a GPT-2
    captions_per_image: int = 5  # K of a step
    validation_images: int = 500  # held-out images per validation
    workers: int = 2  # processes that load images
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """The precision under autocast; ``auto`` is bf16 on hardware that multiplies it (CUDA, CPUs with AMX), else
    fp32."""
    vision: VisionConfig = field(default_factory=VisionConfig)
    decoder: Mapping[str, Any] = field(default_factory=dict)  # DecoderConfig without its vocabulary
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    tokenizer: TokenizerRecipe = field(default_factory=TokenizerRecipe)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    adapter: AdapterConfig | None = None  # trained alone, on top of a frozen captioner
    stages: tuple[Stage, ...] = (Stage(),)

    def __post_init__(self) -> None:
        self.decoder_config(1)
        check_seed(self.seed)
        if not self.stages:
            raise ConfigError("a recipe needs at least one [[stages]] table")
        if self.captions_per_image < 1 or self.validation_images < 1 or self.workers < 0:
            raise ConfigError("captions_per_image and validation_images must be at least 1, and workers at least 0")

    def decoder_config(self, vocab_size: int) -> DecoderConfig:
        """Return the decoder's configuration for a tokenizer of ``vocab_size`` entries."""
        return from_dict(DecoderConfig, {**self.decoder, "vocab_size": vocab_size}, where="decoder.")


def load_recipe(name: str, settings: Sequence[str] = (), *, images: int | None = None) -> Recipe:
    """Return the shipped recipe or the TOML file ``name``, with ``key=value`` settings applied.

    ``images``: the number of training images, if known; the recipe's row of ``[[sizes]]`` for it then applies.
    """
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise ConfigError(f"there is no recipe {name}; choose one of {known}, or give a .toml file")
    try:
        values = tomllib.loads(regular_text(path, most=LONGEST_SETTINGS))
    except (OSError, ValueError, RecursionError) as error:  # no TOML; too many digits; deeply nested lists
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
    """Remove the rows of sizes from a recipe's values, and return the row for ``images``, if any."""
    tables = values.pop("sizes", [])
    rows = [from_dict(Size, row, where=f"sizes[{n}].") for n, row in enumerate(tables)]
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
