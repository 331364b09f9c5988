"""Beam search for captions that must say given words.

Beams are shared out over banks by how many tokens of the required phrases they have said (Post and Vilar 2018, arXiv
1804.06609, dynamic beam allocation), so a caption on its way to the words is not crowded out by likelier ones
that avoid them. A caption may end only when everything is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captioner.config import GenerationConfig, TextConfig
from captioner.generation.beam import insert, may_improve
from captioner.generation.hypothesis import Hypothesis, finished
from captioner.generation.step import Writing, best_continuations, wide


@dataclass(frozen=True)
class Phrase:
    """A phrase to be said, by any of its ``forms`` in tokens; a form in ``initial`` counts at the beginning only.

    ``boundary`` (V,) marks tokens that begin a word or end the caption: a form is said only when one of them follows,
    since "dog" is not said by "doghouse".
    """

    forms: tuple[tuple[int, ...], ...]
    initial: tuple[tuple[int, ...], ...]
    boundary: tuple[bool, ...]

    @property
    def length(self) -> int:
        """Tokens of the shortest form."""
        return min(map(len, (*self.forms, *self.initial)))


SAID = -1
Progress = tuple[int, ...]  # tokens said of each form of a phrase, initial ones last; (SAID,) when it is said


class Checklist:
    """Follows how far a caption is with its phrases; a finite automaton, a state per phrase."""

    def __init__(self, phrases: Sequence[Phrase]) -> None:
        self.phrases = tuple(phrases)
        self._lengths = [min(map(len, phrase.forms)) for phrase in phrases]  # where the beginning has passed
        self._falls = [[_borders(form) for form in phrase.forms] for phrase in phrases]

    def start(self) -> tuple[Progress, ...]:
        """Before the first token."""
        return tuple((0,) * (len(p.forms) + len(p.initial)) for p in self.phrases)

    def after(self, states: tuple[Progress, ...], token: int) -> tuple[Progress, ...]:
        """The states when ``token`` has been said too."""
        return tuple(self._after(index, state, token) for index, state in enumerate(states))

    def said(self, states: tuple[Progress, ...]) -> bool:
        """Whether the caption may end here."""
        return all(state == (SAID,) or self._complete(i, state) for i, state in enumerate(states))

    def word_is_open(self, states: tuple[Progress, ...]) -> bool:
        """Whether a phrase is complete but for the end of its last word."""
        return any(state != (SAID,) and self._complete(i, state) for i, state in enumerate(states))

    def bank(self, states: tuple[Progress, ...]) -> int:
        """Twice the tokens of the phrases that are said and of the one that is nearest to it, less one where its last
        word is open.

        Of two phrases that are under way at once only one counts: what goes on with one may be the end of the other. So
        there is always a token that leads to a fuller bank, and no detour leads to a bank as full as the direct way.
        """
        said = sum(2 * length for length, state in zip(self._lengths, states, strict=True) if state == (SAID,))
        return said + max((self._begun(i, state) for i, state in enumerate(states) if state != (SAID,)), default=0)

    def wanted(self, states: tuple[Progress, ...]) -> set[int]:
        """The tokens that take a phrase further."""
        tokens: set[int] = set()
        for index, (phrase, state) in enumerate(zip(self.phrases, states, strict=True)):
            if state != (SAID,) and not self._complete(index, state):
                tokens |= {form[done] for form, done in zip(phrase.forms, state, strict=False)}
                tokens |= {f[d] for f, d in zip(phrase.initial, state[len(phrase.forms) :], strict=True) if d >= 0}
        return tokens

    def _begun(self, index: int, state: Progress) -> int:
        """What a phrase that is not said yet gives to the bank."""
        phrase = self.phrases[index]
        forms = (*phrase.forms, *phrase.initial)
        missing = min(len(form) - done for form, done in zip(forms, state, strict=True) if done != LOST)
        return max(2 * (self._lengths[index] - missing), 0) - (missing == 0)

    def _complete(self, index: int, state: Progress) -> bool:
        phrase = self.phrases[index]
        return any(done == len(form) for form, done in zip((*phrase.forms, *phrase.initial), state, strict=True))

    def _after(self, index: int, state: Progress, token: int) -> Progress:
        phrase = self.phrases[index]
        if state == (SAID,) or (self._complete(index, state) and phrase.boundary[token]):
            return (SAID,)
        after: list[int] = []
        for form, falls, said in zip(phrase.forms, self._falls[index], state, strict=False):
            done = said
            while done and (done == len(form) or form[done] != token):  # Knuth, Morris and Pratt 1977
                done = falls[done - 1]
            after.append(done + 1 if form[done] == token else 0)
        for form, done in zip(phrase.initial, state[len(phrase.forms) :], strict=True):
            goes_on = 0 <= done < len(form) and form[done] == token
            after.append(done + 1 if goes_on else LOST)
        return tuple(after)


LOST = -2  # an initial form whose moment has passed


def _borders(form: Sequence[int]) -> list[int]:
    """For each beginning of ``form``, the length of its longest proper end that is also a beginning."""
    borders = [0] * len(form)
    length = 0
    for place in range(1, len(form)):
        while length and form[place] != form[length]:
            length = borders[length - 1]
        length += form[place] == form[length]
        borders[place] = length
    return borders


@dataclass(frozen=True)
class _Candidate:
    total: float
    parent: int
    token: int
    states: tuple[Progress, ...]


def constrained_search(
    writing: Writing, text: TextConfig, config: GenerationConfig, steps: int, phrases: Sequence[Phrase]
) -> list[list[Hypothesis]]:
    """The ``config.beams`` best captions of each image that say all ``phrases``; none where other rules forbid it."""
    checklist, width, device = Checklist(phrases), config.beams, writing.tokens.device
    begun = checklist.start()
    for token in writing.tokens[0, 0].tolist():
        begun = checklist.after(begun, token)
    before = writing.tokens.shape[2]
    alive = list(range(writing.images))
    found: list[list[Hypothesis]] = [[] for _ in alive]
    states = [[begun] for _ in alive]  # of every beam of every image under way
    sums: Tensor | None = None  # (B, K)
    for step in range(1, steps + 1):
        log_probs = writing.next()  # (B, 1 or K, V)
        sums = wide(writing.log_probs.sum(-1)) if sums is None else sums
        going, chosen = [], []
        for row, image in enumerate(alive):
            running: list[_Candidate] = []
            for candidate in _candidates(log_probs[row], sums[row], states[row], checklist, width):
                ends = candidate.token == text.eos_id
                if not ends and step < steps:
                    running.append(candidate)
                elif checklist.said(states[row][candidate.parent] if ends else candidate.states):
                    written, given = writing.with_token(row, candidate.parent, candidate.token)
                    caption = finished(
                        written, given, text, ranked=candidate.total, length_penalty=config.length_penalty
                    )
                    insert(found[image], caption, width)
            beams = _shared_out(running, checklist, width)
            lengths = before + step, before + steps
            if beams and may_improve(found[image], beams[0].total, lengths, width, config):
                going.append(row)
                chosen.append(beams)
        if not going:
            break
        filled = [beams + [_Candidate(-math.inf, 0, 0, begun)] * (width - len(beams)) for beams in chosen]
        if len(going) < len(alive):
            writing.keep(torch.tensor(going, device=device))
            alive = [alive[row] for row in going]
        writing.advance(
            torch.tensor([[c.parent for c in beams] for beams in filled], device=device),
            torch.tensor([[c.token for c in beams] for beams in filled], device=device),
        )
        sums = torch.tensor([[c.total for c in beams] for beams in filled], dtype=sums.dtype, device=device)
        states = [[c.states for c in beams] for beams in filled]
    return found


def _candidates(
    log_probs: Tensor, sums: Tensor, states: Sequence[tuple[Progress, ...]], checklist: Checklist, width: int
) -> list[_Candidate]:
    """Continuations of one image's beams: the best of all, the best of each, and those that say what is wanted."""
    parents, tokens, _ = best_continuations(log_probs[None], sums[None], 2 * width)
    pairs = set(zip(parents[0].tolist(), tokens[0].tolist(), strict=True))
    pairs |= set(enumerate(log_probs.argmax(dim=-1).tolist()))
    pairs |= {(beam, token) for beam, state in enumerate(states) for token in checklist.wanted(state)}
    open_words = [beam for beam, state in enumerate(states) if checklist.word_is_open(state)]
    if open_words:  # a phrase counts when its last word ends: with the best token that ends it
        boundary = torch.tensor(checklist.phrases[0].boundary, device=log_probs.device)
        ending = log_probs[open_words].masked_fill(~boundary, -math.inf).argmax(dim=-1)
        pairs |= set(zip(open_words, ending.tolist(), strict=True))
    rows, columns = zip(*sorted(pairs), strict=True)
    totals = sums[list(rows)] + wide(log_probs[list(rows), list(columns)])
    return [
        _Candidate(total, parent, token, checklist.after(states[parent], token))
        for total, parent, token in zip(totals.tolist(), rows, columns, strict=True)
        if total != -math.inf
    ]


def _shared_out(candidates: Sequence[_Candidate], checklist: Checklist, width: int) -> list[_Candidate]:
    """``width`` of the candidates, each bank giving its best in turn, the fullest bank first; best first."""
    banks: dict[int, list[_Candidate]] = {}
    for candidate in sorted(candidates, key=lambda c: -c.total):
        banks.setdefault(checklist.bank(candidate.states), []).append(candidate)
    turns = [(place, -bank, candidate) for bank, held in banks.items() for place, candidate in enumerate(held)]
    chosen = [candidate for _, _, candidate in sorted(turns, key=lambda turn: turn[:2])[:width]]
    return sorted(chosen, key=lambda c: -c.total)
