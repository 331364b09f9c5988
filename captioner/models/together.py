"""One pass over images and their captions that answers all objectives at once: captioning, search, matching, tags.

The decoder is causal, so a caption read to its end token gives the logits of its words, and at that token the state for
matching. The words are read once more alone, for the common space; and beside images that they are false of.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captioner.models.decoder import Decoder
from captioner.models.heads import Heads, at, closed, end_states
from captioner.models.vision import EncodedImage


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a pass is asked for beside the logits.

    ``lengths`` (B, K): tokens of each caption with its start, 0 where an image has fewer than K. ``negatives``: false
    captions that matching sees for each image, and false images for as many of its captions.
    """

    lengths: Tensor
    negatives: int


@dataclass(frozen=True, kw_only=True)
class Together:
    """``logits`` (B, K, T, V); directions of ``images`` (B, W) and ``texts`` (B, K, W) with the ``steepness`` of their
    softmax; log-odds of ``true`` pairs (B, K) and of ``false`` ones (M,), of which ``valid`` (M,) exist; ``tags``
    (B, G), log-odds. None for heads that are not there.
    """

    logits: Tensor
    images: Tensor
    texts: Tensor
    steepness: Tensor
    log_variances: Tensor
    true: Tensor | None = None
    false: Tensor | None = None
    valid: Tensor | None = None
    tags: Tensor | None = None


def read_together(
    decoder: Decoder, heads: Heads, encoded: EncodedImage, tokens: Tensor, ask: Ask, *, eos_id: int
) -> Together:
    """``tokens`` (B, K, T) of the encoded images, as a batch has them."""
    memory = decoder.remember(encoded)
    texts, ends = closed(tokens, ask.lengths, eos_id, decoder.config.context)  # (B, K, T + 1), (B, K)
    flat, flat_ends = texts.flatten(0, 1), ends.flatten()
    states = decoder.states(flat, memory).unflatten(0, tokens.shape[:2])  # (B, K, T + 1, D)
    alone = end_states(decoder, flat, flat_ends).unflatten(0, tokens.shape[:2])  # (B, K, D)
    pooled = heads.pooled(encoded)  # (B, D)
    images, directions = heads.of_images(pooled), heads.of_texts(alone)
    true = false = valid = None
    if heads.match is not None:
        keys, owner, real = caption_keys(tokens, ask.lengths).flatten(), owners(tokens), ask.lengths.flatten() > 0
        own = own_captions(keys, owner, real, len(images))
        similarity = (heads.steepness * images @ directions.flatten(0, 1).T).detach()  # (B, B * K)
        image, text, valid = hard_negatives(similarity, own, ask.lengths > 0, ask.negatives)
        true = heads.matches(at(states, ends))
        false = heads.matches(end_states(decoder, flat[text], flat_ends[text], memory.select(image)))
    return Together(
        logits=decoder.lm_head(states[:, :, : tokens.shape[2]]),
        images=images,
        texts=directions,
        steepness=heads.steepness,
        log_variances=heads.log_variances,
        true=true,
        false=false,
        valid=valid,
        tags=heads.tag(pooled) if heads.tag is not None else None,
    )


def owners(tokens: Tensor) -> Tensor:
    """Which image each of the captions (B, K, ...) belongs to, (B * K,)."""
    return torch.arange(tokens.shape[0], device=tokens.device).repeat_interleave(tokens.shape[1])


def caption_keys(tokens: Tensor, lengths: Tensor) -> Tensor:
    """A number (B, K) per caption that two captions share where they say the same: a hash of its ``tokens`` (B, K, T).

    It wraps around as 64-bit products do, on every device alike; what stands behind a caption plays no part.
    """
    place = torch.arange(tokens.shape[-1], device=tokens.device)
    keys = torch.zeros_like(lengths)
    for t in range(tokens.shape[-1]):
        keys = torch.where(place[t] < lengths, keys * 6364136223846793005 + tokens[..., t] + 1442695040888963407, keys)
    return keys


def own_captions(keys: Tensor, owner: Tensor, real: Tensor, images: int) -> Tensor:
    """Which of N captions are an image's own, or say word for word what one of its own says: (images, N).

    ``keys`` (N,) as of ``caption_keys``; ``owner`` (N,) says whose each is; those that are not ``real`` (N,) are fill.
    """
    belongs = (owner == torch.arange(images, device=keys.device)[:, None]) & real  # (images, N)
    same = keys[:, None] == keys[None, :]  # (N, N)
    return (belongs.float() @ same.float()) > 0


def hard_negatives(similarity: Tensor, own: Tensor, real: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """False pairs, drawn by how similar they are: images (M,), captions (M,) out of N = B * K, and which exist (M,).

    For each image ``count`` captions, and for ``count`` of its captions an image each, with probabilities of a softmax
    over ``similarity`` (B, N) without what is ``own`` (B, N) (Li et al. 2021, ALBEF, section 3.2), without replacement:
    the greatest after Gumbel noise are such a draw (Kool et al. 2019, arXiv 1903.06059). ``real`` (B, K).
    """
    images, captions = real.shape
    never = own | ~real.flatten()
    found, text = _noisy(similarity).masked_fill(never, -torch.inf).topk(min(count, images * captions), dim=1)  # (B, M)
    image = torch.arange(images, device=real.device)[:, None].expand_as(text)
    some = torch.rand(real.shape, device=real.device).masked_fill(~real, -1).topk(min(count, captions), dim=1).indices
    chosen = (some + captions * torch.arange(images, device=real.device)[:, None]).flatten()  # (M',)
    best, other = _noisy(similarity[:, chosen]).masked_fill(never[:, chosen], -torch.inf).max(dim=0)  # (M',)
    valid = torch.cat([found.flatten(), best]).isfinite()
    return torch.cat([image.flatten(), other]), torch.cat([text.flatten(), chosen]), valid


def _noisy(logits: Tensor) -> Tensor:
    """With Gumbel noise."""
    return logits - torch.empty_like(logits).exponential_().log()
