"""Settings of sampling."""

from __future__ import annotations

from dataclasses import dataclass, field

from captioner.config.option import check_limits, option
from captioner.errors import ConfigError

SEEDS = range(-(2**63), 2**63)  # the seeds that torch's generators accept


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Sampling from the model's distribution, after truncation; None keeps all tokens."""

    temperature: float = field(
        default=1.0,
        metadata=option(
            help="sampling temperature; below 1 favours probable words; 0 is greedy decoding",
            metavar="T",
            above=0.0,
            remedy="use one beam without sampling for greedy decoding",
            transformers="temperature",
        ),
    )
    top_k: int | None = field(
        default=None,
        metadata=option(
            help="sample from the K most probable words; 0 is off", metavar="K", least=0, transformers="top_k"
        ),
    )
    top_p: float | None = field(
        default=None,
        metadata=option(
            help="nucleus sampling: sample from the most probable words with mass P; 1 is off",
            metavar="P",
            above=0.0,
            most=1.0,
            paper="Holtzman et al. 2020",
            transformers="top_p",
        ),
    )
    min_p: float | None = field(
        default=None,
        metadata=option(
            help="sample from words with at least P times the highest probability; 0 is off",
            metavar="P",
            least=0.0,
            most=1.0,
            paper="Nguyen et al. 2024",
            transformers="min_p",
        ),
    )
    typical_p: float | None = field(
        default=None,
        metadata=option(
            help="locally typical sampling (Meister et al. 2022) with mass P; 1 is off",
            metavar="P",
            above=0.0,
            most=1.0,
            transformers="typical_p",
        ),
    )
    seed: int = field(
        default=0,
        metadata=option(
            help="random seed; samples depend only on it and on the photo's pixels",
            metavar="N",
            values="whole number of at most 18 digits",
        ),
    )

    def __post_init__(self) -> None:
        check_limits(self)
        check_seed(self.seed)


def check_seed(seed: int) -> None:
    """Raise ``ConfigError`` for a seed outside the range of torch's generators."""
    if seed not in SEEDS:
        raise ConfigError("the seed has too many digits; choose a whole number of at most 18")
