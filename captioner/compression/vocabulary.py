"""Captioners without the words that no caption of a corpus needs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from captioner.checkpoint import Checkpoint, merged
from captioner.checkpoint.card import VocabularyNote, noted
from captioner.config import to_dict
from captioner.errors import UsageError
from captioner.models.captioner import Captioner
from captioner.models.fit import tied_names
from captioner.text.trimming import needed, trimmed, with_parts


def trim_vocabulary(checkpoint: Checkpoint, captions: Iterable[str], *, least: int = 1) -> Checkpoint:
    """Return the captioner with the tokens alone that ``captions`` use at least ``least`` times.

    The tokens of its labels and the special tokens stay (``text/trimming.py``). Raises ``UsageError`` if there are no
    captions.
    """
    texts = list(captions)
    if not texts:
        raise UsageError("there are no captions whose words to keep; name files of captions")
    keep = needed(checkpoint.tokenizer, texts, least=least)
    smaller = keep_tokens(checkpoint, keep)
    before, after = (one.config.decoder.vocab_size for one in (checkpoint, smaller))
    note = VocabularyNote(before=before, after=after, captions=len(texts))
    return replace(smaller, training=noted(checkpoint.training, vocabulary=to_dict(note)))


@torch.no_grad()
def keep_tokens(checkpoint: Checkpoint, keep: Collection[int]) -> Checkpoint:
    """Return the captioner with the tokens ``keep``, their parts, those of its labels and the special ones.

    It is exact: the logits of these tokens are the same, and so is the greedy caption of every photo whose caption had
    no other token. Beams may choose differently, since probabilities are shares of the remaining words. An adapter is
    merged.
    """
    checkpoint = merged(checkpoint)
    labels, config = checkpoint.config.labels, checkpoint.config
    named = {token for tokens in labels.tokens for token in tokens} if labels is not None else set()
    kept = with_parts(checkpoint.tokenizer, {*keep, *named})
    tokenizer, places = trimmed(checkpoint.tokenizer, {token for token in kept if token < config.decoder.vocab_size})
    if labels is not None:
        labels = replace(labels, tokens=tuple(tuple(places[t] for t in tokens) for tokens in labels.tokens))
    question = None if config.question is None else replace(config.question, vocab_size=len(places))
    smaller = replace(
        config,
        decoder=replace(config.decoder, vocab_size=len(places)),
        question=question,
        text=tokenizer.config,
        labels=labels,
    )
    weights = _kept_rows(checkpoint.model, torch.tensor(sorted(places)))
    model = Captioner(smaller).eval()
    model.load_state_dict(weights, strict=False)
    model.to(next(checkpoint.model.parameters()).device)
    return replace(checkpoint, model=model, tokenizer=tokenizer, source="")


def _kept_rows(model: Captioner, kept: Tensor) -> dict[str, Tensor]:
    """Return the weights of ``model``, those of each word cut to the ``kept`` ones; without tied logits."""
    weights = {name: value for name, value in model.state_dict().items() if name not in tied_names(model)}
    decoders = {"decoder": model.decoder, **({} if model.question is None else {"question": model.question})}
    for part, decoder in decoders.items():
        names = [f"{part}.token_embedding.weight"]
        if isinstance(decoder.lm_head, nn.Linear):
            names += [f"{part}.lm_head.weight", f"{part}.lm_head.bias"]
        for name in names:
            if name in weights:
                weights[name] = cast(Tensor, weights[name])[kept.to(weights[name].device)]
    return weights
