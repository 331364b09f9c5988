"""The policy gradient equals the gradient of the expected reward, for a policy of two words."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.checkpoint import Checkpoint
from captioner.generation.hypothesis import Hypothesis
from captioner.models.captioner import Outputs
from captioner.models.vision import Features
from captioner.training.batches import Batch
from captioner.training.recipe import Recipe
from captioner.training.tasks import Data
from captioner.training.tasks.adversarial import Adversarial
from captioner.training.tasks.policy import PolicyGradient, SampledCaptions, leave_one_out, seed_of
from captioner.training.tasks.self_critical import SelfCritical

Make = Callable[..., Recipe]
WORDS = (300, 301)  # tokens of the two words
REWARDS = (0.9, 0.2)
LOG_ODDS = (1.5, -0.5)


class TwoWords(nn.Module):
    """A model that gives one of two words to every image."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.4, -0.3]))
        self.vocabulary = vocabulary

    def forward(self, tokens: Tensor, image: object) -> Outputs:
        everything = torch.full((self.vocabulary,), -1e4).index_put((torch.tensor(WORDS),), self.logits)
        return Outputs(everything.expand(*tokens.shape, -1))


class Verdict(nn.Module):
    """A discriminator that uses only the first word."""

    def forward(self, values: Tensor, grid: object, prefix: int, captions: Tensor, ends: Tensor) -> Tensor:
        return torch.where(captions[..., 1] == WORDS[0], *LOG_ODDS).float()


def make(
    kind: type[PolicyGradient], recipe: Make, data: Data, checkpoint: Checkpoint, **options: Any
) -> PolicyGradient:
    plan = recipe({"task": "any", "options": {"samples": 2, "human": 0.0, **options}})
    task: Any = kind(plan, plan.stages[0], data, checkpoint.tokenizer)
    task.cider = lambda captions, names: torch.tensor(
        [[REWARDS[WORDS.index(c.tokens[0])] for c in of_image] for of_image in captions]
    )
    if isinstance(task, Adversarial):
        task.begin(checkpoint.model, checkpoint.model)
        task.discriminator = Verdict()
    found: PolicyGradient = task
    return found


@pytest.mark.parametrize(
    ("kind", "options", "rewards"),
    [
        (SelfCritical, {}, REWARDS),
        (
            Adversarial,
            {"cider": 0.0, "adversary": 1.0, "head_start": 0},
            F.logsigmoid(torch.tensor(LOG_ODDS)).tolist(),
        ),
        (
            Adversarial,
            {"cider": 0.5, "adversary": 0.25, "head_start": 0},
            [0.5 * r + 0.25 * float(F.logsigmoid(torch.tensor(z))) for r, z in zip(REWARDS, LOG_ODDS, strict=True)],
        ),
        (Adversarial, {"cider": 1.0, "adversary": 9.0, "head_start": 10}, REWARDS),  # it has yet to learn
    ],
)
def test_the_gradient_is_that_of_the_expected_reward(
    kind: type[PolicyGradient],
    options: dict[str, float],
    rewards: tuple[float, float],
    recipe: Make,
    data: Data,
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over all outcomes of two draws: d/d theta_a of sum_w p(w) r(w) is p(a) p(b) (r(a) - r(b)), once per draw."""
    task = make(kind, recipe, data, checkpoint, **options)
    policy = TwoWords(checkpoint.config.decoder.vocab_size)
    p = policy.logits.detach().softmax(0)
    items = task.items(None)
    batch = task.collate()([items[(0, 0)]])
    expected = torch.zeros(2)
    for outcome in itertools.product((0, 1), repeat=2):
        captions = [[Hypothesis((WORDS[w],), (0.0,), 0.0) for w in outcome]]
        tokens, targets, weights = task.collate().pad_captions([[c.tokens for c in captions[0]]])
        weights[..., 1] = 0  # no end is chosen
        drawn = SampledCaptions(captions=captions, tokens=tokens, targets=targets, weights=weights, seed=3)
        monkeypatch.setattr(task, "_draw", lambda *_, drawn=drawn: drawn)
        policy.zero_grad()
        task.loss(policy, task.prepare(checkpoint.model, batch))["loss"].backward()
        assert policy.logits.grad is not None
        expected += p[outcome[0]] * p[outcome[1]] * policy.logits.grad
    slope = float(p[0] * p[1]) * (rewards[0] - rewards[1])
    torch.testing.assert_close(expected, -2 * torch.tensor([slope, -slope]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", [SelfCritical, Adversarial])
def test_advantages_of_an_image_sum_to_zero(
    kind: type[PolicyGradient], recipe: Make, data: Data, checkpoint: Checkpoint
) -> None:
    plan = recipe({"task": "any", "options": {"samples": 4, "human": 0.0}})
    task = kind(plan, plan.stages[0], data, checkpoint.tokenizer)
    task.begin(checkpoint.model, checkpoint.model)
    items = task.items(None)
    batch = task.prepare(checkpoint.model, task.collate()([items[(place, 0)] for place in range(3)]))
    assert batch.advantages is not None
    assert batch.advantages.shape == (3, 4)
    torch.testing.assert_close(batch.advantages.sum(dim=1), torch.zeros(3), atol=1e-5, rtol=0)


def test_the_baseline_is_the_mean_of_the_others() -> None:
    rewards = torch.tensor([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0]])
    assert leave_one_out(rewards).tolist() == [[-3.0, -1.5, 4.5], [0.0, 0.0, 0.0]]


def test_draws_of_an_image_do_not_depend_on_its_neighbours(recipe: Make, data: Data, checkpoint: Checkpoint) -> None:
    """Several processes therefore draw the same as one alone."""
    plan = recipe({"task": "any", "options": {"samples": 3}})
    task = SelfCritical(plan, plan.stages[0], data, checkpoint.tokenizer)
    model = checkpoint.model.eval()
    items = task.items(None)

    def draws(*places: int) -> list[list[Hypothesis]]:
        batch: Batch = task.collate()([items[(place, 0)] for place in places])
        with torch.no_grad():
            assert isinstance(batch.image, Tensor)
            features: Features = model.vision.features(batch.image)
            return task._draw(model, features, batch.names, 4).captions

    together, alone = draws(0, 1, 2), draws(2)
    assert [h.tokens for h in together[2]] == [h.tokens for h in alone[0]]
    assert seed_of(1, "a") != seed_of(1, "b") != seed_of(2, "b")


def test_draws_depend_on_the_step_and_not_on_dropouts_random_numbers(
    recipe: Make, data: Data, checkpoint: Checkpoint
) -> None:
    """Processes with differently padded batches draw different numbers for dropout, but the same captions."""
    plan = recipe({"task": "any", "options": {"samples": 3}})
    task = SelfCritical(plan, plan.stages[0], data, checkpoint.tokenizer)
    items = task.items(None)
    batch = task.collate()([items[(place, 0)] for place in range(3)])

    def drawn(step: int, numbers: int) -> list[list[list[int]]]:
        torch.rand(numbers)
        with torch.no_grad():
            found: list[list[list[int]]] = task.prepare(checkpoint.model, replace(batch, seed=step)).tokens.tolist()
        return found

    assert drawn(1, 0) == drawn(1, 5)
    assert drawn(1, 0) != drawn(2, 0)
