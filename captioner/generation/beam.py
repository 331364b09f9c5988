"""Beam search, in one group or in several diverse groups.

A caption is ranked by log-probability / length ** length_penalty, and the end token counts in both. The search of an
image ends when no running beam can still overtake the worst of its finished captions. That is Hugging Face's
``early_stopping="never"`` and exact for any length penalty. If rules can raise a sum, the search runs to the last step.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from captioner.config import GenerationConfig, TextConfig
from captioner.generation.hypothesis import Hypothesis, hypothesis_of
from captioner.generation.step import Writing, best_continuations, to_sum_precision


def beam_search(writing: Writing, text: TextConfig, config: GenerationConfig, steps: int) -> list[list[Hypothesis]]:
    """Return the ``config.beams`` best captions of each image, best first; fewer if groups found the same ones."""
    width = config.beams // config.groups
    device = writing.tokens.device
    alive = list(range(writing.images))  # row b of the tensors below is image alive[b]
    groups: list[list[list[Hypothesis]]] = [[[] for _ in alive] for _ in range(config.groups)]
    sums: Tensor | None = None  # (B, G, K) sums that rank running beams, K = width
    begun = writing.tokens.shape[2]
    for step in range(1, steps + 1):
        log_probs = writing.next()  # (B, 1 or G * K, V)
        if sums is None:
            sums = to_sum_precision(writing.log_probs.sum(-1))[
                ..., None
            ]  # (B, 1, 1): all groups start from the same prefix
        taken = torch.zeros_like(log_probs[:, 0]) if config.groups > 1 else None  # (B, V) choices of earlier groups
        parents, tokens, totals, bounds, gains = [], [], [], [], writing.most_gain()
        for group in range(config.groups):
            first = group * width if step > 1 else 0
            part = log_probs[:, first : first + width]  # (B, 1 or K, V)
            if taken is not None:
                part = part - config.diversity * taken[:, None]
            parent, token, total = best_continuations(part, sums[:, group if step > 1 else 0], 2 * width)  # (B, 2K)
            ends = token == text.eos_id if step < steps else torch.ones_like(token, dtype=torch.bool)
            done = ends[:, :width] & (total[:, :width] != -torch.inf)  # ranks below K lose to better beams
            for row, rank in done.nonzero().tolist():
                beam = first + int(parent[row, rank])
                written, own = writing.with_token(row, beam, int(token[row, rank]))
                ranked = float(total[row, rank])
                caption = hypothesis_of(written, own, text, ranked=ranked, length_penalty=config.length_penalty)
                insert(groups[group][alive[row]], caption, width)
            running = total.masked_fill(token == text.eos_id, -torch.inf)
            best, order = running.topk(min(width, running.shape[1]), dim=1)  # (B, K)
            best, order = pad_beams(best, width, -math.inf), pad_beams(order, width, 0)
            parents.append(first + parent.gather(1, order))
            tokens.append(token.gather(1, order))
            totals.append(best)
            bounds.append((best + gains.gather(1, parents[-1])).amax(1))
            if taken is not None:
                taken = taken.scatter_add(1, tokens[-1], (best != -torch.inf).to(taken.dtype))
        del log_probs, part, taken  # (B, G * K, V) each: free them before the next step's
        if step == steps:
            break
        sums = torch.stack(totals, dim=1)  # (B, G, K)
        heads = torch.stack(bounds, dim=1).tolist()  # the most that sums can become
        lengths = begun + step, begun + steps
        going = [
            row
            for row, image in enumerate(alive)
            if any(may_improve(groups[g][image], heads[row][g], lengths, width, config) for g in range(config.groups))
        ]
        if not going:
            break
        writing.advance(torch.cat(parents, dim=1), torch.cat(tokens, dim=1))
        if len(going) < len(alive):
            keep = torch.tensor(going, device=device)
            alive, sums = [alive[row] for row in going], sums[keep]
            writing.keep(keep)
    return [_ranked([h for g in groups for h in g[image]]) for image in range(len(groups[0]))]


def _ranked(hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    """Return the different captions of all groups, best first."""
    best: dict[tuple[int, ...], Hypothesis] = {}
    for hypothesis in sorted(hypotheses, key=lambda h: -h.score):
        best.setdefault(hypothesis.tokens, hypothesis)
    return list(best.values())


def insert(hypotheses: list[Hypothesis], caption: Hypothesis, most: int) -> None:
    """Insert ``caption`` into ``hypotheses``, best first, and keep the first ``most``."""
    hypotheses.append(caption)
    hypotheses.sort(key=lambda h: -h.score)
    del hypotheses[most:]


def may_improve(
    hypotheses: list[Hypothesis], best: float, lengths: tuple[int, int], width: int, config: GenerationConfig
) -> bool:
    """Return whether running beams of at most the sum ``best`` can still enter the finished ``hypotheses`` of an image.

    ``lengths``: the running beams' current and maximum length in tokens, including a prefix.
    """
    if best == -math.inf:  # a tiny vocabulary can run out of captions
        return False
    rules = config.rules
    if len(hypotheses) < width or rules.repetition_penalty < 1 or any(value > 0 for value in rules.bias.values()):
        return True
    done, most = lengths
    # Sums only fall; a positive length penalty makes the longest caption the bound.
    length = most if config.length_penalty > 0 else done + 1
    return best / length**config.length_penalty > hypotheses[-1].score


def pad_beams(values: Tensor, width: int, value: float) -> Tensor:
    """Pad ``values`` (B, fewer) to (B, width), since a tiny vocabulary has fewer continuations than beams."""
    return F.pad(values, (0, width - values.shape[1]), value=value)
