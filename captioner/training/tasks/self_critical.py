"""Self-critical training: captions that the model draws itself, weighted by how much better than usual they score."""

from __future__ import annotations

from captioner.models.vision import Features
from captioner.text import CaptionTokenizer
from captioner.training.batches import Batch
from captioner.training.recipe import Recipe, Stage
from captioner.training.tasks.base import Data
from captioner.training.tasks.policy import CiderReward, Drawn, Judged, PolicyGradient


class SelfCritical(PolicyGradient):
    """Policy gradient on CIDEr-D (Rennie et al. 2017, arXiv 1612.00563, eq. 8). Document frequencies are those of the
    training split.
    """

    def __init__(self, recipe: Recipe, stage: Stage, data: Data, tokenizer: CaptionTokenizer) -> None:
        super().__init__(recipe, stage, data, tokenizer)
        self.cider = CiderReward(data.train, tokenizer)

    def rewards(self, drawn: Drawn, features: Features, batch: Batch) -> Judged:
        rewards = self.cider(drawn.captions, batch.names)
        return Judged(rewards=rewards, figures={"reward": 100 * rewards.mean()})
