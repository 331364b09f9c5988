"""Validation chooses the best weights by the captions that the checkpoint will write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.captioning.batches import generate
from captioner.checkpoint import Checkpoint, load
from captioner.config import GenerationConfig, SamplingConfig, WordRules, to_dict
from captioner.errors import UsageError
from captioner.metrics.bleu import bleu
from captioner.metrics.cider import cider_d
from captioner.metrics.words import words
from captioner.models.vision import Features
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.tasks import Data
from captioner.training.tasks.cross_entropy import CrossEntropy

Make = Callable[..., Recipe]
CPU = torch.device("cpu")


def validated(checkpoint: Checkpoint, data: Data, plan: Recipe, generation: GenerationConfig) -> dict[str, float]:
    plan = replace(plan, generation=generation)
    return CrossEntropy(plan, plan.stages[0], data, checkpoint.tokenizer).validate(checkpoint.model, None, CPU)


@pytest.mark.parametrize(
    "generation",
    [
        GenerationConfig(beams=2),
        GenerationConfig(rules=WordRules(forbid=("a", "the"), no_repeat_ngram=2)),
        GenerationConfig(beams=2, max_tokens=20, rules=WordRules(require=("dog",))),
        GenerationConfig(beams=2, length_penalty=-2.0, refine=2),
        GenerationConfig(beams=4, candidates=4, rerank="consensus"),
        GenerationConfig(sampling=SamplingConfig(temperature=3.0, seed=5)),
    ],
)
def test_captions_are_judged_as_they_will_be_written(
    generation: GenerationConfig, checkpoint: Checkpoint, data: Data, recipe: Make
) -> None:
    shown = replace(data, validation=data.train[:4])  # overfitted images, so that captions are not random
    found = validated(checkpoint, shown, recipe(), generation)
    written = generate(checkpoint, [sample.path for sample in shown.validation], generation)
    said = [words(checkpoint.tokenizer.decode(best[0].tokens)) for best in written if isinstance(best, list)]
    truth = [[words(caption) for caption in sample.captions] for sample in shown.validation]
    assert found["cider_d"] == pytest.approx(cider_d(said, truth).mean)
    assert found["bleu4"] == pytest.approx(bleu(said, truth).bleu4)
    assert found["distinct"] == 100 * len(set(map(tuple, said))) / 4


def test_matching_chooses_where_it_will_choose(taught: Path, data: Data, recipe: Make) -> None:
    checkpoint = load(taught)
    generation = GenerationConfig(beams=4, candidates=4, rerank="matching")
    found = validated(checkpoint, data, recipe(), generation)
    written = generate(checkpoint, [sample.path for sample in data.validation], generation)
    said = [words(checkpoint.tokenizer.decode(best[0].tokens)) for best in written if isinstance(best, list)]
    truth = [[words(caption) for caption in sample.captions] for sample in data.validation]
    assert found["bleu4"] == pytest.approx(bleu(said, truth).bleu4)


def test_draws_of_kept_features_differ_from_image_to_image(
    checkpoint: Checkpoint, data: Data, recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from captioner.training.tasks import cross_entropy

    seen: list[torch.Tensor] = []
    write = cross_entropy.caption_memory

    def remember(
        checkpoint: Checkpoint, memory: Any, seeing: torch.Tensor, config: GenerationConfig, **more: Any
    ) -> Any:
        seen.extend(seeing)
        return write(checkpoint, memory, seeing, config, **more)

    class Kept(CrossEntropy):
        """Validation on features from the disk."""

        def collate(self, store: Any = None) -> Any:
            plain = super().collate(store)

            def features(items: Any) -> Any:
                batch = plain(items)
                found: Features = checkpoint.model.vision.features(batch.image)
                return replace(batch, image=replace(found, values=found.values.half().float()))

            return features

    monkeypatch.setattr(cross_entropy, "caption_memory", remember)
    plan = replace(recipe(), generation=GenerationConfig(sampling=SamplingConfig()))
    task = Kept(plan, plan.stages[0], data, checkpoint.tokenizer)
    assert task.validate(checkpoint.model, None, CPU) == task.validate(checkpoint.model, None, CPU)
    assert len(seen) == 2 * len(data.validation)
    assert seen[0].shape[-1] == checkpoint.model.vision.features(torch.zeros(1, 3, 64, 64)).values.shape[-1]


def test_an_image_without_a_caption_ends_no_run(
    checkpoint: Checkpoint, data: Data, recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from captioner.training.tasks import cross_entropy

    monkeypatch.setattr(
        cross_entropy, "caption_memory", lambda _, memory, *rest, **more: [[] for _ in range(memory.images)]
    )
    found = validated(checkpoint, data, recipe(), GenerationConfig())
    assert (found["cider_d"], found["bleu4"]) == (0, 0)


@pytest.mark.parametrize(
    ("generation", "said"),
    [
        (GenerationConfig(max_tokens=900, rules=WordRules(prefix="word " * 40)), "the prefix fills the decoder's"),
        (GenerationConfig(max_tokens=4, rules=WordRules(prefix="word " * 9)), "more than max_tokens 4; raise it"),
        (GenerationConfig(beams=2, candidates=2, rerank="matching"), "has no matching head"),
    ],
)
def test_what_no_validation_could_search_by_is_said_before_the_run(
    generation: GenerationConfig, said: str, data: Data, recipe: Make, tmp_path: Path
) -> None:
    plan = recipe(generation=to_dict(generation))
    with pytest.raises(UsageError, match=said):
        train(plan, data, tmp_path / "run")
    assert not (tmp_path / "run" / "state.pt").exists()
