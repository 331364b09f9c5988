"""Beam search for captions that must contain required phrases.

Beams are distributed over banks by the number of tokens of the required phrases that they contain (Post and Vilar 2018,
arXiv 1804.06609, dynamic beam allocation), so more probable captions that avoid the phrases do not displace a caption
that approaches them. A caption may end only when it contains all phrases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captioner.config import GenerationConfig, TextConfig
from captioner.generation.beam import insert, may_improve
from captioner.generation.hypothesis import Hypothesis, hypothesis_of
from captioner.generation.step import Writing, best_continuations, to_sum_precision


@dataclass(frozen=True)
class Phrase:
    """A required phrase, with its possible spellings in tokens."""

    forms: tuple[tuple[int, ...], ...]  # spellings that count anywhere
    initial: tuple[tuple[int, ...], ...]  # spellings that count only at the beginning of a caption
    boundary: tuple[bool, ...]  # (V,) tokens that begin a word or end the caption: "doghouse" does not contain "dog"
    joiners: frozenset[int] = frozenset()  # tokens after which a word continues: "t - shirt" does not contain "shirt"

    @property
    def length(self) -> int:
        """The number of tokens of the shortest form."""
        return min(map(len, (*self.forms, *self.initial)))

    def span_in(self, tokens: Sequence[int]) -> tuple[int, int] | None:
        """Return where the phrase first begins and ends in the ``tokens`` of a caption; None if it is not there."""
        for start in range(len(tokens)):
            joined = start > 0 and tokens[start - 1] in self.joiners
            for form in (*self.forms, *(() if start else self.initial)):
                end = start + len(form)
                ends = end == len(tokens) or (end < len(tokens) and self.boundary[tokens[end]])
                if ends and tuple(tokens[start:end]) == form and (not joined or form[0] in self.joiners):
                    return start, end
        return None


SAID = -1
LOST = -2  # an initial form that can no longer match
HELD = -3  # a form that cannot begin with the next token, which continues a word
Progress = tuple[int, ...]  # matched tokens of each form of a phrase, initial forms last; (SAID,) when complete


class Checklist:
    """A finite automaton that tracks the required phrases of a caption, one state per phrase.

    checklist = Checklist(phrases)
    states = checklist.start()
    for token in tokens:
        states = checklist.after(states, token)
    complete = checklist.is_complete(states)
    """

    def __init__(self, phrases: Sequence[Phrase]) -> None:
        self.phrases = tuple(phrases)
        self._lengths = [min(map(len, phrase.forms)) for phrase in phrases]  # without initial forms
        self._falls = [[_falls(form, phrase.joiners) for form in phrase.forms] for phrase in phrases]

    def start(self) -> tuple[Progress, ...]:
        """Return the states before the first token."""
        return tuple((0,) * (len(p.forms) + len(p.initial)) for p in self.phrases)

    def after(self, states: tuple[Progress, ...], token: int) -> tuple[Progress, ...]:
        """Return the states after one more ``token``."""
        return tuple(self._after(index, state, token) for index, state in enumerate(states))

    def is_complete(self, states: tuple[Progress, ...]) -> bool:
        """Return whether the caption may end here, with all phrases complete."""
        return all(state == (SAID,) or self._complete(i, state) for i, state in enumerate(states))

    def word_is_open(self, states: tuple[Progress, ...]) -> bool:
        """Return whether a phrase is matched, but its last word may still continue."""
        return any(state != (SAID,) and self._complete(i, state) for i, state in enumerate(states))

    def bank(self, states: tuple[Progress, ...]) -> int:
        """Return the bank: twice the matched tokens of complete phrases and of the best partial one.

        It is one less while the last word of the partial phrase is open. Only one of two partial phrases counts, since
        continuing one may abandon the other. So some token always leads to a fuller bank, and no detour leads to a bank
        as full as the direct path.
        """
        done = sum(2 * length for length, state in zip(self._lengths, states, strict=True) if state == (SAID,))
        return done + max((self._begun(i, state) for i, state in enumerate(states) if state != (SAID,)), default=0)

    def wanted(self, states: tuple[Progress, ...]) -> set[int]:
        """Return the tokens that advance a phrase."""
        tokens: set[int] = set()
        for index, (phrase, state) in enumerate(zip(self.phrases, states, strict=True)):
            if state != (SAID,) and not self._complete(index, state):
                forms = (*phrase.forms, *phrase.initial)
                tokens |= {form[done] for form, done in zip(forms, state, strict=True) if done >= 0}
        return tokens

    def _begun(self, index: int, state: Progress) -> int:
        """Return the contribution of an incomplete phrase to the bank."""
        phrase = self.phrases[index]
        forms = (*phrase.forms, *phrase.initial)
        missing = min(len(form) - max(done, 0) for form, done in zip(forms, state, strict=True) if done != LOST)
        return max(2 * (self._lengths[index] - missing), 0) - (missing == 0)

    def _complete(self, index: int, state: Progress) -> bool:
        phrase = self.phrases[index]
        return any(done == len(form) for form, done in zip((*phrase.forms, *phrase.initial), state, strict=True))

    def _after(self, index: int, state: Progress, token: int) -> Progress:
        phrase = self.phrases[index]
        if state == (SAID,) or (self._complete(index, state) and phrase.boundary[token]):
            return (SAID,)
        after: list[int] = []
        for form, falls, matched in zip(phrase.forms, self._falls[index], state, strict=False):
            done = matched
            while done >= 0 and (done == len(form) or form[done] != token):  # Knuth, Morris and Pratt 1977
                done = falls[done]
            joins = token in phrase.joiners and form[0] not in phrase.joiners
            after.append(max(done + 1, 0) or (HELD if joins else 0))
        for form, done in zip(phrase.initial, state[len(phrase.forms) :], strict=True):
            goes_on = 0 <= done < len(form) and form[done] == token
            after.append(done + 1 if goes_on else LOST)
        return tuple(after)


def _borders(form: Sequence[int]) -> list[int]:
    """Return for each prefix of ``form`` the length of its longest proper suffix that is also a prefix."""
    borders = [0] * len(form)
    length = 0
    for place in range(1, len(form)):
        while length and form[place] != form[length]:
            length = borders[length - 1]
        length += form[place] == form[length]
        borders[place] = length
    return borders


def _falls(form: Sequence[int], joiners: frozenset[int]) -> list[int]:
    """Return for 0 to all matched tokens of ``form`` how many remain matched if another token follows; -1 for none.

    A match never begins after one of ``joiners``, unless the form itself begins with one.
    """
    borders = _borders(form)
    apart = frozenset() if form[0] in joiners else joiners
    falls = [-1]
    for matched in range(1, len(form) + 1):
        rest = borders[matched - 1]
        while rest >= 0 and form[matched - rest - 1] in apart:
            rest = borders[rest - 1] if rest else -1
        falls.append(rest)
    return falls


@dataclass(frozen=True)
class _Candidate:
    total: float
    parent: int
    token: int
    states: tuple[Progress, ...]


def constrained_search(
    writing: Writing, text: TextConfig, config: GenerationConfig, steps: int, phrases: Sequence[tuple[Phrase, ...]]
) -> list[list[Hypothesis]]:
    """Return the ``config.beams`` best captions of each image with all of its ``phrases``, if the rules allow any."""
    by_phrases = {required: Checklist(required) for required in set(phrases)}
    checklists = [by_phrases[required] for required in phrases]  # of each image
    width, device, before = config.beams, writing.tokens.device, writing.tokens.shape[2]
    alive = list(range(writing.images))
    hypotheses: list[list[Hypothesis]] = [[] for _ in alive]
    begun = [checklists[image].start() for image in alive]
    for token in writing.tokens[0, 0].tolist():
        begun = [checklists[image].after(begun[image], token) for image in alive]
    states = [[start] for start in begun]  # of every running beam of every image
    boundary = torch.tensor(phrases[0][0].boundary, device=device)  # (V,); all phrases of a script share it
    sums: Tensor | None = None  # (B, K)
    for step in range(1, steps + 1):
        log_probs = writing.next()  # (B, 1 or K, V)
        sums = to_sum_precision(writing.log_probs.sum(-1)) if sums is None else sums
        likely = _likely(log_probs, sums, width)
        going, chosen, gains = [], [], writing.most_gain().tolist()
        for row, image in enumerate(alive):
            checklist = checklists[image]
            running: list[_Candidate] = []
            pairs = likely[row] | _forced(log_probs[row], states[row], checklist, boundary)
            for candidate in _candidates(pairs, log_probs[row], sums[row], states[row], checklist):
                ends = candidate.token == text.eos_id
                if not ends and step < steps:
                    running.append(candidate)
                elif checklist.is_complete(states[row][candidate.parent] if ends else candidate.states):
                    written, own = writing.with_token(row, candidate.parent, candidate.token)
                    caption = hypothesis_of(
                        written, own, text, ranked=candidate.total, length_penalty=config.length_penalty
                    )
                    insert(hypotheses[image], caption, width)
            beams = _allocated(running, checklist, width)
            lengths = before + step, before + steps
            bound = max((c.total + gains[row][c.parent] for c in beams), default=-math.inf)
            if beams and may_improve(hypotheses[image], bound, lengths, width, config):
                going.append(row)
                chosen.append(beams)
        if not going:
            break
        starts = [begun[alive[row]] for row in going]
        filled = [
            beams + [_Candidate(-math.inf, 0, 0, start)] * (width - len(beams))
            for beams, start in zip(chosen, starts, strict=True)
        ]
        if len(going) < len(alive):
            writing.keep(torch.tensor(going, device=device))
            alive = [alive[row] for row in going]
        writing.advance(
            torch.tensor([[c.parent for c in beams] for beams in filled], device=device),
            torch.tensor([[c.token for c in beams] for beams in filled], device=device),
        )
        sums = torch.tensor([[c.total for c in beams] for beams in filled], dtype=sums.dtype, device=device)
        states = [[c.states for c in beams] for beams in filled]
    return hypotheses


Pairs = set[tuple[int, int]]  # a beam and its next token


def _likely(log_probs: Tensor, sums: Tensor, width: int) -> list[Pairs]:
    """Return continuations of each image's beams: the best overall, and the best of each beam."""
    parents, tokens, _ = best_continuations(log_probs, sums, 2 * width)
    first = log_probs.argmax(dim=-1)
    return [
        set(zip(own, following, strict=True)) | set(enumerate(each))
        for own, following, each in zip(parents.tolist(), tokens.tolist(), first.tolist(), strict=True)
    ]


def _forced(log_probs: Tensor, states: Sequence[tuple[Progress, ...]], checklist: Checklist, boundary: Tensor) -> Pairs:
    """Return the continuations of one image's beams that advance phrases, or end the open last word of one."""
    pairs = {(beam, token) for beam, state in enumerate(states) for token in checklist.wanted(state)}
    open_words = [beam for beam, state in enumerate(states) if checklist.word_is_open(state)]
    if open_words:  # a phrase counts when its last word ends: the best token that ends it
        ending = log_probs[open_words].masked_fill(~boundary, -math.inf).argmax(dim=-1)
        pairs |= set(zip(open_words, ending.tolist(), strict=True))
    return pairs


def _candidates(
    pairs: Pairs, log_probs: Tensor, sums: Tensor, states: Sequence[tuple[Progress, ...]], checklist: Checklist
) -> list[_Candidate]:
    """Return those of one image's continuations ``pairs`` that the rules allow."""
    rows, columns = zip(*sorted(pairs), strict=True)
    totals = sums[list(rows)] + to_sum_precision(log_probs[list(rows), list(columns)])
    return [
        _Candidate(total, parent, token, checklist.after(states[parent], token))
        for total, parent, token in zip(totals.tolist(), rows, columns, strict=True)
        if total != -math.inf
    ]


def _allocated(candidates: Sequence[_Candidate], checklist: Checklist, width: int) -> list[_Candidate]:
    """Choose ``width`` candidates round-robin over the banks, fullest bank first; return them best first."""
    banks: dict[int, list[_Candidate]] = {}
    for candidate in sorted(candidates, key=lambda c: -c.total):
        banks.setdefault(checklist.bank(candidate.states), []).append(candidate)
    turns = [(place, -bank, candidate) for bank, members in banks.items() for place, candidate in enumerate(members)]
    chosen = [candidate for _, _, candidate in sorted(turns, key=lambda turn: turn[:2])[:width]]
    return sorted(chosen, key=lambda c: -c.total)
