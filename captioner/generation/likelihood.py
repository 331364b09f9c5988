"""The likelihood of given captions of images under a model, in total and token by token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captioner.config import GenerationConfig, TextConfig
from captioner.generation.hypothesis import Hypothesis, hypothesis_of
from captioner.generation.rules import NO_RULES, Rules
from captioner.generation.step import processed
from captioner.models.decoder import Decoder, ImageMemory

LOGITS_AT_ONCE = 1 << 27  # half a gigabyte in fp32


@torch.inference_mode()
def score_captions(
    decoder: Decoder,
    memory: ImageMemory,
    captions: Sequence[Sequence[Sequence[int]]],
    text: TextConfig,
    config: GenerationConfig | None = None,
    *,
    rules: Rules = NO_RULES,
    starts: Sequence[int] | None = None,
) -> list[list[Hypothesis]]:
    """Score every caption of every image in ``memory`` token by token: log p(caption, end | image), natural logarithm.

    Captions are token ids without start and end. ``score`` is the sum, or with ``config`` (and its compiled ``rules``)
    the score of its search: -inf for a caption that violates a rule. A caption longer than the decoder's context or
    ``config.max_tokens`` is truncated and scored without an end: ``Hypothesis.ended`` is False.

    ``starts``: the start token of caption k of every image, for captions in several languages; by default all captions
    are in the language of ``config``.
    """
    most = decoder.config.context
    if config is not None:
        most = min(config.max_tokens, most - 1)
    written = [[tuple(ids[:most]) if len(ids) >= most else (*ids, text.eos_id) for ids in group] for group in captions]
    count = max(map(len, written))
    if not count:
        return [[] for _ in written]
    length = max(len(ids) for group in written for ids in group)
    device = memory.centres.device
    tokens = torch.full((len(written), count, length + 1), text.pad_id, device="cpu")  # (B, K, 1 + T), padded
    tokens[..., 0] = text.speaking(config.language).bos_id if config is not None else text.bos_id
    if starts is not None:
        tokens[..., 0] = torch.tensor(starts, device="cpu")
    for b, group in enumerate(written):
        for k, ids in enumerate(group):
            tokens[b, k, 1 : len(ids) + 1] = torch.tensor(ids, device="cpu")
    tokens = tokens.to(device)
    at_once = max(1, LOGITS_AT_ONCE // (len(written) * length * decoder.config.vocab_size))
    parts = [_judged(decoder, memory, part, rules) for part in tokens.split(at_once, dim=1)]
    own, ranked = (torch.cat(values, dim=1).tolist() for values in zip(*parts, strict=True))
    penalty = config.length_penalty if config is not None else 0.0
    return [
        [
            hypothesis_of(
                ids, own[b][k][: len(ids)], text, ranked=sum(ranked[b][k][: len(ids)]), length_penalty=penalty
            )
            for k, ids in enumerate(group)
        ]
        for b, group in enumerate(written)
    ]


def _judged(decoder: Decoder, memory: ImageMemory, tokens: Tensor, rules: Rules) -> tuple[Tensor, Tensor]:
    """Return log-probabilities (B, K, T) of ``tokens`` (B, K, 1 + T) after the start: the model's, and with rules."""
    flat = tokens.flatten(0, 1)  # (N, 1 + T)
    log_probs = decoder(flat[:, :-1], memory).float().log_softmax(-1)  # (N, T, V)
    targets = flat[:, 1:]  # (N, T)
    own = log_probs.gather(-1, targets[..., None]).squeeze(-1)  # (N, T)
    ranked = own.clone()
    if rules.processors or rules.labels is not None:
        for place in range(len(rules.prefix), targets.shape[1]):
            step = log_probs[:, place].unflatten(0, tokens.shape[:2])  # (B, K, V)
            ruled = processed(step, tokens[..., 1 : 1 + place], rules.processors, rules.labels)
            ranked[:, place] = ruled.flatten(0, 1).gather(1, targets[:, place, None]).squeeze(1)
    return own.view(*tokens.shape[:2], -1), ranked.view(*tokens.shape[:2], -1)
