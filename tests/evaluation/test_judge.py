"""Rows of a judgement, compared with the plain metrics on captions chosen by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from captioner.data.samples import Sample
from captioner.errors import CaptionerError
from captioner.evaluation import judge as module
from captioner.evaluation.evaluate import Evaluation
from captioner.evaluation.judge import Judge, Scores, fingerprint
from captioner.evaluation.tables import markdown
from captioner.metrics.bleu import bleu
from captioner.metrics.cider import cider_d
from captioner.metrics.rouge import rouge_l
from captioner.metrics.words import characters, words

SAID = [
    "a dog runs on the beach",
    "two kids play with a ball",
    "a man rides a horse in a field",
    "a dog runs on the beach",
]


def plain(said: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    candidates, truth = [words(c) for c in said], [[words(c) for c in group] for group in references]
    scores = bleu(candidates, truth)
    return {
        **{f"bleu{n}": getattr(scores, f"bleu{n}") for n in (1, 2, 3, 4)},
        "rouge_l": float(rouge_l(candidates, truth).mean()),
        "cider_d": cider_d(candidates, truth).mean,
    }


def same(found: Scores, expected: dict[str, float]) -> None:
    assert dict(found.values) == pytest.approx(expected, abs=1e-9)


def test_each_row_is_what_the_plain_metrics_say(samples: list[Sample]) -> None:
    references = [sample.captions for sample in samples]
    with Judge(samples) as judge:
        found = judge.judge(SAID)
    same(found.model, plain(SAID, references))
    same(found.shuffled, plain([*SAID[1:], SAID[0]], references))
    best = max((plain([caption] * 4, references) for caption in SAID), key=lambda scores: scores["bleu4"])
    same(found.floor, best)
    assert found.floor_caption in SAID
    folds = range(3)
    others = [[[c for j, c in enumerate(group) if j != fold] for group in references] for fold in folds]
    people = [plain([group[fold] for group in references], others[fold]) for fold in folds]
    same(found.human, {name: np.mean([fold[name] for fold in people]) for name in people[0]})
    ours = [plain(SAID, others[fold]) for fold in folds]
    same(found.model_like_human, {name: np.mean([fold[name] for fold in ours]) for name in ours[0]})
    plain_bleu = bleu([words(c) for c in SAID], [[words(c) for c in group] for group in references])
    assert found.model.bleu.precisions == pytest.approx(plain_bleu.precisions)
    assert replace(found.model.bleu, precisions=(), bleu1=0, bleu2=0, bleu3=0, bleu4=0) == replace(
        plain_bleu, precisions=(), bleu1=0, bleu2=0, bleu3=0, bleu4=0
    )
    assert found.length_ratio == pytest.approx(plain_bleu.length_ratio)


def test_bleu_of_a_corpus_is_that_of_nltk_and_equal_to_the_sums(samples: list[Sample]) -> None:
    """The corpus score is nltk's to the last bit; the sums for intervals agree with it."""
    found = Judge(samples).judge(SAID)
    candidates, truth = [words(c) for c in SAID], [[words(c) for c in s.captions] for s in samples]
    by_nltk = bleu(candidates, truth)
    for n in (1, 2, 3, 4):
        assert found.model[f"bleu{n}"] == getattr(by_nltk, f"bleu{n}") == getattr(found.model.bleu, f"bleu{n}")
    assert found.shuffled["bleu2"] == bleu([*candidates[1:], candidates[0]], truth).bleu2
    for scores in (found.model, found.floor, found.shuffled, found.human, found.model_like_human):
        for name in ("bleu1", "bleu2", "bleu3", "bleu4"):
            statistic = scores.metrics[name]
            assert statistic.whole == scores[name]
            assert float(statistic.score(statistic.values.sum(axis=0))) == pytest.approx(scores[name], abs=1e-9)


def test_intervals_hold_the_score_and_every_image_has_its_own(samples: list[Sample]) -> None:
    found = Judge(samples).judge(SAID)
    for scores in (found.model, found.floor, found.shuffled, found.human, found.model_like_human, found.of_captions):
        for name, value in scores.values.items():
            inside = scores.intervals[name]
            assert inside.low - 1e-9 <= value <= inside.high + 1e-9, name
    assert found.model.intervals["cider_d"].low < found.model.intervals["cider_d"].high
    assert np.mean(found.model.per_image) == pytest.approx(found.model.cider_d)
    assert (found.of_captions["empty"], found.of_captions["repetitive"]) == (0, 0)
    assert found.of_captions["length"] == found.diversity.length


def test_some_of_the_images(samples: list[Sample]) -> None:
    judge = Judge(samples)
    found = judge.judge([SAID[1], SAID[3]], [1, 3], training=samples[:1])
    assert found == Judge([samples[1], samples[3]]).judge([SAID[1], SAID[3]], training=samples[:1])
    assert found.diversity.novel == 100
    assert judge.judge([samples[0].captions[0], ""], [1, 3], training=samples[:1]).diversity.novel == 50


def test_people_are_left_out_where_an_image_has_one_reference(samples: list[Sample]) -> None:
    found = Judge([samples[0], replace(samples[1], captions=("a",))]).judge(SAID[:2])
    assert found.human is None
    assert found.model_like_human is None
    uneven = [samples[0], replace(samples[1], captions=samples[1].captions[:2])]
    assert Judge(uneven).judge(SAID[:2]).human is not None  # over the two choices that both images have


def test_chinese_is_judged_by_characters(samples: list[Sample]) -> None:
    chinese = [
        replace(samples[0], captions=("一只黑狗在沙滩上奔跑", "黑狗在海滩上跑")),
        replace(samples[1], captions=("两个孩子在玩球", "孩子们玩红色的球")),
    ]
    said = ["一只狗在沙滩上跑", "两个孩子玩球"]
    assert Judge(chinese).judge(said).model["bleu1"] == 0
    found = Judge(chinese, "characters").judge(said)
    expected = bleu([characters(c) for c in said], [[characters(c) for c in s.captions] for s in chinese])
    assert found.model["bleu4"] == pytest.approx(expected.bleu4)
    assert found.model["cider_d"] > 50


class FakeMeteor:
    """A METEOR in which every word matches exactly and the longer caption has more chunks."""

    def __init__(self) -> None:
        self.open = True

    def counts(self, candidates, references):
        rows = np.zeros((len(candidates), 23))
        for row, candidate, group in zip(rows, candidates, references, strict=True):
            shared = max(len(set(candidate) & set(reference)) for reference in group)
            row[[0, 1]] = len(candidate), len(group[0])
            row[[4, 5]] = shared
            row[[20, 21, 22]] = shared
        return rows

    def pairs(self, candidates, references):
        return self.counts(candidates, [[reference] for reference in references])

    def close(self) -> None:
        self.open = False


def test_meteor_where_its_program_runs(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Meteor", FakeMeteor)
    monkeypatch.setattr(module, "missing_for_meteor", lambda: "")
    with Judge(samples, java=True) as judge:
        found = judge.judge([SAID[1], SAID[3]], [1, 3])
    assert judge.meteor is not None
    assert not judge.meteor.open
    assert found.missing == {}
    for scores in (found.model, found.floor, found.shuffled, found.human, found.model_like_human):
        assert 0 <= scores["meteor"] < 100
    assert found.human["meteor"] != found.model_like_human["meteor"]
    assert Judge(samples, "characters", java=True).missing == {"meteor": "knows English words only"}


def test_a_metric_that_cannot_be_had_is_named_and_never_replaced(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "missing_for_meteor", lambda: "needs Java")
    found = Judge(samples, java=True).judge(SAID)
    assert found.missing == {"meteor": "needs Java"}
    assert "meteor" not in found.model.values
    monkeypatch.setattr("captioner.metrics.spice.shutil.which", lambda name: None)
    found = Judge(samples, want_spice=True).judge(SAID)
    assert found.missing["spice"].startswith("SPICE needs Java; install")
    whole = Evaluation(judgement=found, captions=found.captions)
    text = markdown(whole, "mine")
    assert "| SPICE (not verified) |" in text
    assert "| failed |" in text
    assert "SPICE needs Java; install" in text.splitlines()[-1]


def test_captions_are_judged_although_the_program_dies(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying(FakeMeteor):
        def pairs(self, candidates, references):
            raise CaptionerError("METEOR stopped without an answer; it needs 2 GiB of free memory")

    monkeypatch.setattr(module, "Meteor", Dying)
    monkeypatch.setattr(module, "missing_for_meteor", lambda: "")
    with Judge(samples, java=True) as judge:
        found = judge.judge(SAID)
    assert "meteor" not in {name for row in (found.model, found.floor, found.human) for name in row.values}
    assert found.missing == {"meteor": "METEOR stopped without an answer; it needs 2 GiB of free memory"}
    assert found.model["bleu4"] > 0


def test_the_fingerprint_is_of_names_and_captions(samples: list[Sample]) -> None:
    assert Judge(samples).judge(SAID).fingerprint == fingerprint(samples[::-1])
