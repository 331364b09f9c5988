"""Settings of transformers' ``generate()``: the special tokens and the decoding defaults of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captioner.checkpoint.files import read_json
from captioner.config import GenerationConfig, TextConfig, WordRules, from_dict
from captioner.errors import CheckpointError, ConfigError

# Settings of generate() that captioner does not apply, with the values that turn them off.
_IGNORED: Mapping[str, tuple[Any, ...]] = {
    "do_sample": (False,),
    "early_stopping": (False, "never"),
    "repetition_penalty": (1.0,),
    "encoder_repetition_penalty": (1.0,),
    "encoder_no_repeat_ngram_size": (0,),
    "exponential_decay_length_penalty": (),
    "guidance_scale": (1.0,),
    "penalty_alpha": (0.0,),
    "renormalize_logits": (False,),
    "token_healing": (False,),
    "sequence_bias": (),
    "bad_words_ids": (),
    "constraints": (),
    "force_words_ids": (),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "forced_decoder_ids": (),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "stop_strings": (),
    "max_time": (),
    "dola_layers": (),
    "watermarking_config": (),
}
_SAMPLING: Mapping[str, tuple[Any, ...]] = {  # they do nothing without do_sample
    "temperature": (1.0,),
    "top_k": (0,),
    "top_p": (1.0,),
    "min_p": (0.0,),
    "top_h": (1.0,),
    "typical_p": (1.0,),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
}
NEW_TOKENS = 20  # of a caption whose settings name no length
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
_BART = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "decoder_start_token_id": 2}
_TOKENS = {  # transformers' defaults by model_type of the decoder
    "gpt2": {"bos_token_id": 50256, "eos_token_id": 50256},
    "bert": {"pad_token_id": 0},
    "roberta": {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1},
    "bart": _BART,
    "mbart": _BART,
    "trocr": _BART,
}


def read_settings(directory: Path, *levels: Mapping[str, Any], decoder: str) -> dict[str, Any]:
    """Merge the settings of generate(): the ``decoder`` type's own, then ``levels``, then generation_config.json.

    Beside generation_config.json, only special tokens of the other levels count, as in transformers.
    """
    settings: dict[str, Any] = dict(_TOKENS.get(decoder, {}))
    path = directory / "generation_config.json"
    if path.exists():
        levels = (*({name: level.get(name) for name in _IDS} for level in levels), read_json(path))
    for level in levels:
        settings |= {name: value for name, value in level.items() if value is not None}
    return settings


def ignored_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of generate() that change a caption and are not applied here."""
    known = {**_IGNORED, **(_SAMPLING if settings.get("do_sample") else {})}
    return {name: settings[name] for name, off in known.items() if name in settings and settings[name] not in off}


def text_config(settings: Mapping[str, Any], vocab_size: int, source: object) -> TextConfig:
    """Return the special tokens. Raises ``CheckpointError`` for a missing one and for one outside the vocabulary."""
    start = settings.get("decoder_start_token_id", settings.get("bos_token_id"))
    end = settings.get("eos_token_id")
    end = end[0] if isinstance(end, list) and len(end) == 1 else end
    ids: dict[str, Any] = {
        "decoder_start_token_id": start,
        "eos_token_id": end,
        "pad_token_id": settings.get("pad_token_id", end),
    }
    for name, token in ids.items():
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocab_size:
            raise CheckpointError(
                f"{source} has {name} {token!r}, which is not an id of its {vocab_size} tokens; correct its config.json"
            )
    return TextConfig(
        bos_id=ids["decoder_start_token_id"], eos_id=ids["eos_token_id"], pad_id=ids["pad_token_id"], lowercase=False
    )


def generation_config(settings: Mapping[str, Any], source: object) -> GenerationConfig:
    """Return the decoding defaults, by the rules of transformers: 20 new tokens if the settings name no length.

    Lengths there may count the start token, and a minimum does not count the end token; here lengths count the end
    token only, so that ``min_length`` stays as it is.
    """
    most = settings.get("max_new_tokens", _more(settings.get("max_length", NEW_TOKENS + 1), -1))
    least = _more(settings["min_new_tokens"], 1) if "min_new_tokens" in settings else settings.get("min_length")
    groups = settings.get("num_beam_groups", 1)
    try:
        return from_dict(
            GenerationConfig,
            {
                "beams": settings.get("num_beams", 1),
                "min_tokens": least or GenerationConfig.min_tokens,
                "max_tokens": most,
                "length_penalty": settings.get("length_penalty", 1.0),
                "groups": groups,
                "diversity": settings.get("diversity_penalty", 0.0) if groups != 1 else 0.0,
                "rules": {"no_repeat_ngram": settings.get("no_repeat_ngram_size", WordRules.no_repeat_ngram)},
            },
        )
    except ConfigError as error:
        raise CheckpointError(f"{source} has generation settings that cannot be used: {error}") from error


def _more(length: Any, tokens: int) -> Any:
    """Return ``length`` plus ``tokens``; what is no number stays, to be named in an error."""
    return length + tokens if isinstance(length, int) else length
