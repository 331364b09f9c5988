"""Losses over pairs of images and captions, and the weighted sum of several losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as distributed
import torch.nn.functional as F
from torch import Tensor

from captioner.models.heads import LOSSES
from captioner.models.joint import own_captions

NOTHING = -1e30  # a masked logit; its exponential is 0 and has a gradient, unlike that of -inf


def contrastive_loss(similarity: Tensor, own: Tensor, owner: Tensor) -> Tensor:
    """Return CLIP's loss (Radford et al. 2021, fig. 3) for images with several captions.

    It is half the mean, over every caption n of every image b, of

        - log e^s(b, n) / (e^s(b, n) + sum of e^s(b, m) over the captions m that are not own to b)
        - log e^s(b, n) / (e^s(b, n) + sum of e^s(c, n) over the images c that n is not own to)

    ``similarity`` s (B, N): scaled cosines. ``own`` (B, N): the result of ``own_captions``. ``owner`` (N,): the image
    of each caption. An image's other captions, and the same words under another image, are true too: neither sum pushes
    them away. With one caption per image this is CLIP's loss.
    """
    false = similarity.masked_fill(own, NOTHING)
    pair = similarity[owner, torch.arange(len(owner), device=owner.device)]  # (N,)
    among_captions = F.softplus(false.logsumexp(dim=1)[owner] - pair)  # (N,)
    among_images = F.softplus(false.logsumexp(dim=0) - pair)  # (N,)
    return (among_captions + among_images).mean() / 2


def matching_loss(true: Tensor, false: Tensor) -> Tensor:
    """Return binary cross-entropy from log-odds (M,); true and false pairs weigh the same, whatever their numbers."""
    negative = F.softplus(false).mean() if len(false) else false.sum()
    return (F.softplus(-true).mean() + negative) / 2


@torch.no_grad()
def matching_accuracy(true: Tensor, false: Tensor) -> Tensor:
    """Return the percentage of right verdicts; true and false pairs weigh the same, and chance is 50."""
    rejected = (false < 0).float().mean() if len(false) else torch.ones((), device=true.device)
    return 50 * ((true > 0).float().mean() + rejected)


def combined(losses: Mapping[str, Tensor], log_variances: Tensor | None, weights: Mapping[str, float]) -> Tensor:
    """Return the weighted sum of several losses; ``weights`` are 1 by default.

    With ``log_variances`` s, in the order of ``LOSSES``, the weights are learned: the sum of e^-s L + s / 2, which
    models each objective as a likelihood of its own uncertainty (Kendall et al. 2018, arXiv 1705.07115, eq. 10 for
    classification). Its minimum has the weight 1 / 2 L, so a falling loss weighs more.
    """
    if log_variances is None:
        return torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()
    s = {name: log_variances[LOSSES.index(name)] for name in losses}
    return torch.stack([(-s[name]).exp() * loss + s[name] / 2 for name, loss in losses.items()]).sum()


@dataclass(frozen=True)
class Pairs:
    """Embeddings of B images and of their N captions."""

    images: Tensor  # (B, W)
    texts: Tensor  # (N, W)
    keys: Tensor  # (N,), equal for captions of the same words
    owner: Tensor  # (N,), the image of each caption
    words: Tensor  # predicted words, a mean over processes
    each: Tensor | float  # images, a mean over processes
    fill: Tensor | None = None  # (B,), True for padding rows

    def contrast(self, logit_scale: Tensor) -> Tensor:
        """Return the contrastive loss of all pairs."""
        real = torch.ones_like(self.owner, dtype=torch.bool)
        own = own_captions(self.keys, self.owner, real, len(self.images))
        if self.fill is not None:
            own = own | self.fill[:, None]
        with torch.autocast(self.images.device.type, enabled=False):  # half precision makes near cosines equal
            similarity = logit_scale * self.images @ self.texts.T  # (B, N)
        return contrastive_loss(similarity, own, self.owner)


def of_all_processes(own: Pairs) -> Pairs:
    """Return the pairs of all processes together.

    The other processes' embeddings have no gradient here. The gradient of this process's own embeddings is multiplied
    by the number of processes: each computes the loss of all pairs, so the mean of their gradients is the whole
    gradient. (A loss of the process's own rows alone would omit the effect of its images on other processes' captions.)
    The loss of all pairs times the mean of ``words``, summed over processes, is the loss times all words.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return own
    from accelerate.utils import gather, pad_across_processes

    processes, rank = distributed.get_world_size(), distributed.get_rank()

    def gather_all(values: Tensor) -> Tensor:
        padded: Tensor = pad_across_processes(values, dim=0)
        gathered: Tensor = gather(padded.detach().contiguous())
        if not values.requires_grad:
            return gathered
        at = rank * len(padded)
        mine = processes * values - (processes - 1) * values.detach()
        return torch.cat([gathered[:at], mine, gathered[at + len(values) :]])

    images = gather_all(own.images)
    most = len(images) // processes
    real = gather_all(torch.ones_like(own.owner)) > 0  # padding is 0
    texts, keys, owner = (gather_all(values)[real] for values in (own.texts, own.keys, own.owner + rank * most))
    fill = gather_all(torch.ones_like(own.images[:, 0].detach())) == 0
    words = gather_all(own.words.detach().reshape(1)).mean()
    return Pairs(images, texts, keys, owner, words, (~fill).sum() / processes, fill)
