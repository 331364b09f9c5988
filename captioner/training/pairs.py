"""Losses over pairs of images and captions, and how the losses of several objectives become one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as distributed
import torch.nn.functional as F
from accelerate.utils import gather, pad_across_processes
from torch import Tensor

from captioner.models.heads import LOSSES
from captioner.models.together import own_captions

NOTHING = -1e30  # a logit that is not there; its exponential is 0 and, unlike that of -inf, has a gradient


def contrastive_loss(similarity: Tensor, own: Tensor, owner: Tensor) -> Tensor:
    """CLIP's loss (Radford et al. 2021, fig. 3) where images have several captions: the mean, over every caption n of
    every image b, of

        - log e^s(b, n) / (e^s(b, n) + sum of e^s(b, m) over the captions m that are not own to b)
        - log e^s(b, n) / (e^s(b, n) + sum of e^s(c, n) over the images c that n is not own to)

    halved. ``similarity`` s (B, N) is steep cosines; ``own`` (B, N) as of ``own_captions``; ``owner`` (N,). An image's
    other captions, and the same words under another image, are true too: they are pushed away by neither sum. With one
    caption per image this is CLIP's loss.
    """
    false = similarity.masked_fill(own, NOTHING)
    pair = similarity[owner, torch.arange(len(owner), device=owner.device)]  # (N,)
    among_captions = F.softplus(false.logsumexp(dim=1)[owner] - pair)  # (N,)
    among_images = F.softplus(false.logsumexp(dim=0) - pair)  # (N,)
    return (among_captions + among_images).mean() / 2


def matching_loss(true: Tensor, false: Tensor) -> Tensor:
    """Binary cross-entropy in which true and false pairs weigh the same however many there are, from log-odds (M,)."""
    negative = F.softplus(false).mean() if len(false) else false.sum()
    return (F.softplus(-true).mean() + negative) / 2


@torch.no_grad()
def matching_accuracy(true: Tensor, false: Tensor) -> Tensor:
    """Share of pairs judged rightly, 0 to 100, in which true and false ones weigh the same; chance is 50."""
    rejected = (false < 0).float().mean() if len(false) else torch.ones((), device=true.device)
    return 50 * ((true > 0).float().mean() + rejected)


def combined(losses: Mapping[str, Tensor], log_variances: Tensor | None, weights: Mapping[str, float]) -> Tensor:
    """One loss of several: the sum of ``weights`` (1 where not named) times each.

    With ``log_variances`` s, in the order of ``LOSSES``, the weights are learned: the sum of e^-s L + s / 2, which
    models each objective as a likelihood of its own uncertainty (Kendall et al. 2018, arXiv 1705.07115, eq. 10 for
    classification). It is least where a weight is 1 / 2 L, so a loss that falls weighs more.
    """
    if log_variances is None:
        return torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()
    s = {name: log_variances[LOSSES.index(name)] for name in losses}
    return torch.stack([(-s[name]).exp() * loss + s[name] / 2 for name, loss in losses.items()]).sum()


@dataclass(frozen=True)
class Pairs:
    """Directions of ``images`` (B, W) and of ``texts`` (N, W), with the ``keys`` of the texts and their ``owner`` (N,).

    ``words``: how many are predicted, and ``each``: how many images there are, both as a mean over processes. ``fill``
    (B,) marks rows that are no image.
    """

    images: Tensor
    texts: Tensor
    keys: Tensor
    owner: Tensor
    words: Tensor
    each: Tensor | float
    fill: Tensor | None = None

    def contrast(self, steepness: Tensor) -> Tensor:
        """The contrastive loss of all pairs."""
        real = torch.ones_like(self.owner, dtype=torch.bool)
        own = own_captions(self.keys, self.owner, real, len(self.images))
        if self.fill is not None:
            own = own | self.fill[:, None]
        with torch.autocast(self.images.device.type, enabled=False):  # half precision makes near cosines equal
            similarity = steepness * self.images @ self.texts.T  # (B, N)
        return contrastive_loss(similarity, own, self.owner)


def of_all_processes(own: Pairs) -> Pairs:
    """The pairs of all processes together.

    What the others computed has no gradient here. What this process computed has one times their number: each computes
    the loss of all pairs, and a mean of their gradients over processes is then the whole gradient. (A loss computed
    from its own rows alone would leave out what its images do to the captions of others.) A loss of all pairs times the
    mean of ``words`` is, summed over processes, the loss times all words.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return own
    processes, rank = distributed.get_world_size(), distributed.get_rank()

    def everywhere(values: Tensor) -> Tensor:
        padded: Tensor = pad_across_processes(values, dim=0)
        found: Tensor = gather(padded.detach().contiguous())
        if not values.requires_grad:
            return found
        at = rank * len(padded)
        mine = processes * values - (processes - 1) * values.detach()
        return torch.cat([found[:at], mine, found[at + len(values) :]])

    images = everywhere(own.images)
    most = len(images) // processes
    real = everywhere(torch.ones_like(own.owner)) > 0  # what is padded is 0
    texts, keys, owner = (everywhere(values)[real] for values in (own.texts, own.keys, own.owner + rank * most))
    fill = everywhere(torch.ones_like(own.images[:, 0].detach())) == 0
    words = everywhere(own.words.detach().reshape(1)).mean()
    return Pairs(images, texts, keys, owner, words, (~fill).sum() / processes, fill)
