"""Shallow fusion of a labeller and the decoder: a bias of the search toward the words of an image's labels.

The decoder predicts one word after the other; the labeller has looked for each thing by itself. The search adds a share
of the labeller's log-odds to captions that name a label, as Gulcehre et al. 2015 (arXiv 1503.03535, section 4.1) add
the score of a second model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from captioner.generation.spelling import word_ends
from captioner.metrics.nouns import plural
from captioner.text import CaptionTokenizer

STRONGEST = 3.0  # most log-odds of a label, above or below 0
FACTOR = 1_000_003  # of the keys that find a spelling among others


@dataclass(frozen=True)
class Spellings:
    """Labels in L tokens each, in the order of their keys."""

    tokens: Tensor  # (M, L)
    labels: Tensor  # (M,), indices of labels

    @classmethod
    def of(cls, forms: Mapping[tuple[int, ...], int]) -> Spellings:
        """Return the spellings of ``forms``, which map tokens to the index of their label."""
        tokens = torch.tensor(list(forms), device="cpu")
        order = _keys(tokens).argsort()
        return cls(tokens[order], torch.tensor(list(forms.values()), device="cpu")[order])

    @cached_property
    def keys(self) -> Tensor:
        """A number (M,) for each spelling, ascending."""
        return _keys(self.tokens)

    def named(self, windows: Tensor) -> Tensor:
        """Return the label (...) of each of the ``windows`` (..., L) of tokens; -1 for none."""
        place = torch.searchsorted(self.keys, _keys(windows)).clamp(max=len(self.keys) - 1)
        same = (windows == self.tokens[place]).all(-1)
        return torch.where(same, self.labels[place], -1)


def _keys(windows: Tensor) -> Tensor:
    """Return a number (...) for each of the ``windows`` (..., L), equal for equal tokens."""
    keys = windows[..., 0]
    for place in range(1, windows.shape[-1]):
        keys = keys * FACTOR + windows[..., place]  # it may wrap around
    return keys


@dataclass(frozen=True)
class LabelWords:
    """The tokens of the words of G labels, singular and plural.

    count: G.
    inside: (V,) the label that a token names by itself after other words; G for none.
    initial: (V,) the same at the beginning of a caption, where labels of several tokens are not found.
    longer: Labels in more than one token, by their length.
    goes_on: (V,) True for tokens that continue a word.
    """

    count: int
    inside: Tensor
    initial: Tensor
    longer: tuple[Spellings, ...]
    goes_on: Tensor

    def to(self, device: torch.device) -> LabelWords:
        """Return the same on another device."""
        longer = tuple(Spellings(one.tokens.to(device), one.labels.to(device)) for one in self.longer)
        tables = {name: getattr(self, name).to(device) for name in ("inside", "initial", "goes_on")}
        return replace(self, longer=longer, **tables)

    def named(self, tokens: Tensor) -> Tensor:
        """Return the label (N, T) that each of ``tokens`` (N, T) completes; G for none, and for a word that goes on.

        Of labels that end at the same token, the longest counts.
        """
        found = self.inside[tokens]
        found[:, :1] = self.initial[tokens[:, :1]]
        for spellings in self.longer:
            length = spellings.tokens.shape[1]
            if tokens.shape[1] >= length:
                label = spellings.named(tokens.unfold(1, length, 1))  # (N, T - L + 1)
                found[:, length - 1 :] = torch.where(label >= 0, label, found[:, length - 1 :])
        found[:, :-1].masked_fill_(self.goes_on[tokens[:, 1:]], self.count)
        return found


@lru_cache(maxsize=8)
def label_words(labels: tuple[str, ...], tokenizer: CaptionTokenizer) -> LabelWords:
    """Return the tokens of ``labels`` as ``tokenizer`` writes them after a word, and at the beginning."""
    before, none = len(tokenizer.encode("a")), len(labels)
    inside = torch.full((tokenizer.vocab_size,), none, device="cpu")
    initial = inside.clone()
    longer: dict[int, dict[tuple[int, ...], int]] = {}
    for number, label in enumerate(labels):
        for form in (label, plural(label)):
            after, first = tokenizer.encode(f"a {form}")[before:], tokenizer.encode(form)
            if not all(tokenizer.pieces[token] for token in (*after, *first)):
                continue  # a word that this tokenizer cannot write
            if len(after) == 1:
                inside[after] = number
            elif after:
                longer.setdefault(len(after), {})[tuple(after)] = number
            if len(first) == 1:
                initial[first] = number
    spellings = [Spellings.of(forms) for _, forms in sorted(longer.items())]
    goes_on = [bool(piece) and not ends for piece, ends in zip(tokenizer.pieces, word_ends(tokenizer), strict=True)]
    return LabelWords(none, inside, initial, tuple(spellings), torch.tensor(goes_on, device="cpu"))


@dataclass(frozen=True)
class LabelBias:
    """The bias of B images toward the words of their labels: each label counts once in a caption.

    values: (B, G + 1) what a caption gains that names a label; 0 for none.
    """

    words: LabelWords
    values: Tensor

    @classmethod
    def of(cls, words: LabelWords, log_odds: Tensor, weight: float) -> LabelBias:
        """Return the bias of labels with the ``log_odds`` (B, G): a probability of more than 0.5 is favoured."""
        values = weight * log_odds.float().clamp(-STRONGEST, STRONGEST)
        return cls(words.to(log_odds.device), torch.cat([values, values.new_zeros(len(values), 1)], dim=1))

    def select(self, images: Tensor) -> LabelBias:
        """Return the bias of ``images`` (B',)."""
        return replace(self, values=self.values[images])

    def most(self, tokens: Tensor) -> Tensor:
        """Return the most (B, K) that captions of ``tokens`` (B, K, T) can still gain."""
        return self._left(self._named(tokens)).clamp(min=0).sum(-1)

    def biased(self, log_probs: Tensor, tokens: Tensor) -> Tensor:
        """Return the ``log_probs`` (B, K, V) of the next token after ``tokens`` (B, K, T) with the bias.

        The token that completes a label gets its value; one that continues the word takes a gain back, but no loss, so
        that a caption gains at most what ``most`` returns.
        """
        words, named = self.words, self._named(tokens)
        left = self._left(named).to(log_probs.dtype)
        own = words.inside if tokens.shape[2] else words.initial
        single = (own < words.count).nonzero().squeeze(1)  # (S,)
        biased = log_probs.clone()
        biased[..., single] += left[..., own[single]]
        for spellings in words.longer:
            begun = spellings.tokens[:, :-1]  # (M, L - 1)
            if tokens.shape[2] >= begun.shape[1]:
                same = (tokens[:, :, None, -begun.shape[1] :] == begun).all(-1)  # (B, K, M)
                image, caption, form = same.nonzero(as_tuple=True)
                place = image, caption, spellings.tokens[form, -1]
                biased[place] = log_probs[place] + left[image, caption, spellings.labels[form]]
        if tokens.shape[2]:
            last, before = named[..., -1:], named[..., :-1]
            gained = self._values(tokens).gather(2, last).clamp(min=0)
            gained = gained.masked_fill((before == last).any(-1, keepdim=True), 0.0)
            image, caption, _ = gained.nonzero(as_tuple=True)
            biased[image, caption] -= gained[image, caption].to(log_probs.dtype) * words.goes_on
        return biased

    def _named(self, tokens: Tensor) -> Tensor:
        """Return the label that each of ``tokens`` (B, K, T) completes."""
        return self.words.named(tokens.flatten(0, 1)).view_as(tokens)

    def _values(self, tokens: Tensor) -> Tensor:
        return self.values[:, None].expand(-1, tokens.shape[1], -1)  # (B, K, G + 1)

    def _left(self, named: Tensor) -> Tensor:
        """Return what captions that have ``named`` labels (B, K, T) gain by each label (B, K, G + 1)."""
        return self._values(named).scatter(2, named, 0.0)
