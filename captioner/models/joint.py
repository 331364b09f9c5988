"""One pass over images and their captions for all objectives: captioning, contrastive, matching, tags.

The decoder is causal, so one pass over a caption gives the logits of its tokens and, at the end token, the state for
matching. Two more passes read the text alone, for its embedding, and with wrong images, as negatives of matching.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captioner.models.decoder import Decoder
from captioner.models.heads import Heads, append_eos, end_states, gather_at
from captioner.models.vision import EncodedImage


@dataclass(frozen=True, kw_only=True)
class JointQuery:
    """A request for outputs of the heads beside the logits.

    lengths: (B, K) tokens of each caption with its start; 0 for a missing caption.
    negatives: Number of false captions per image for matching, and of its captions that get a false image.
    """

    lengths: Tensor
    negatives: int


@dataclass(frozen=True, kw_only=True)
class JointOutputs:
    """The outputs of the heads; None for missing ones."""

    images: Tensor  # (B, W), image embeddings
    texts: Tensor  # (B, K, W), text embeddings
    logit_scale: Tensor  # the factor on cosines before a softmax
    log_variances: Tensor  # one per loss
    true: Tensor | None = None  # (B, K), log-odds of true pairs
    false: Tensor | None = None  # (M,), log-odds of false pairs
    valid: Tensor | None = None  # (M,), which of the false pairs exist
    tags: Tensor | None = None  # (B, G), log-odds


def read_jointly(
    decoder: Decoder, heads: Heads, encoded: EncodedImage, tokens: Tensor, ask: JointQuery, *, eos_id: int
) -> tuple[Tensor, JointOutputs]:
    """Read the captions ``tokens`` (B, K, T) of a batch with their encoded images, and alone.

    Return the logits (B, K, T, V) of the captions and the outputs of the heads.
    """
    memory = decoder.remember(encoded)
    texts, ends = append_eos(tokens, ask.lengths, eos_id, decoder.config.context)  # (B, K, T + 1), (B, K)
    flat, flat_ends = texts.flatten(0, 1), ends.flatten()
    states = decoder.states(flat, memory).unflatten(0, tokens.shape[:2])  # (B, K, T + 1, D)
    alone = end_states(decoder, flat, flat_ends).unflatten(0, tokens.shape[:2])  # (B, K, D)
    pooled = heads.pooled(encoded)  # (B, D)
    images, embeddings = heads.of_images(pooled), heads.of_texts(alone)
    true = false = valid = None
    if heads.match is not None:
        keys, owner, real = caption_keys(tokens, ask.lengths).flatten(), owners(tokens), ask.lengths.flatten() > 0
        own = own_captions(keys, owner, real, len(images))
        similarity = (heads.logit_scale * images @ embeddings.flatten(0, 1).T).detach()  # (B, B * K)
        image, text, valid = hard_negatives(similarity, own, ask.lengths > 0, ask.negatives)
        true = heads.matches(gather_at(states, ends))
        false = heads.matches(end_states(decoder, flat[text], flat_ends[text], memory.select(image)))
    return decoder.logits(states[:, :, : tokens.shape[2]]), JointOutputs(
        images=images,
        texts=embeddings,
        logit_scale=heads.logit_scale,
        log_variances=heads.log_variances,
        true=true,
        false=false,
        valid=valid,
        tags=heads.tag(pooled) if heads.tag is not None else None,
    )


def owners(tokens: Tensor) -> Tensor:
    """Return the image index of each of the captions (B, K, ...), (B * K,)."""
    return torch.arange(tokens.shape[0], device=tokens.device).repeat_interleave(tokens.shape[1])


def caption_keys(tokens: Tensor, lengths: Tensor) -> Tensor:
    """Return a hash (B, K) of each caption's ``tokens`` (B, K, T), equal for equal captions.

    It wraps around in 64 bits, the same on every device, and ignores padding.
    """
    place = torch.arange(tokens.shape[-1], device=tokens.device)
    keys = torch.zeros_like(lengths)
    for t in range(tokens.shape[-1]):
        keys = torch.where(place[t] < lengths, keys * 6364136223846793005 + tokens[..., t] + 1442695040888963407, keys)
    return keys


def own_captions(keys: Tensor, owner: Tensor, real: Tensor, images: int) -> Tensor:
    """Mark the captions (images, N) that belong to an image or equal one of its own captions.

    ``keys`` (N,): from ``caption_keys``. ``owner`` (N,): each caption's image. ``real`` (N,): False for padding.
    """
    belongs = (owner == torch.arange(images, device=keys.device)[:, None]) & real  # (images, N)
    same = keys[:, None] == keys[None, :]  # (N, N)
    return (belongs.float() @ same.float()) > 0


def hard_negatives(similarity: Tensor, own: Tensor, real: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sample false pairs by similarity: images (M,), captions (M,) out of N = B * K, and which pairs exist (M,).

    Each image gets ``count`` captions, and ``count`` of its captions get one image each, sampled without replacement
    from a softmax over ``similarity`` (B, N) that excludes ``own`` (B, N) captions (Li et al. 2021, ALBEF, section
    3.2): the top k after Gumbel noise are such a sample (Kool et al. 2019, arXiv 1903.06059). ``real`` (B, K): False
    for padding.
    """
    images, captions = real.shape
    never = own | ~real.flatten()
    score, text = _noisy(similarity).masked_fill(never, -torch.inf).topk(min(count, images * captions), dim=1)  # (B, M)
    image = torch.arange(images, device=real.device)[:, None].expand_as(text)
    picked = torch.rand(real.shape, device=real.device).masked_fill(~real, -1).topk(min(count, captions), dim=1).indices
    chosen = (picked + captions * torch.arange(images, device=real.device)[:, None]).flatten()  # (M',)
    scores, other = _noisy(similarity[:, chosen]).masked_fill(never[:, chosen], -torch.inf).max(dim=0)  # (M',)
    valid = torch.cat([score.flatten(), scores]).isfinite()
    return torch.cat([image.flatten(), other]), torch.cat([text.flatten(), chosen]), valid


def _noisy(logits: Tensor) -> Tensor:
    """Add Gumbel noise."""
    return logits - torch.empty_like(logits).exponential_().log()
