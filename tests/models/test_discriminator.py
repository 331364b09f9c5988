"""The discriminator's verdict on each caption of each image."""

from __future__ import annotations

import torch

from captioner.checkpoint import Checkpoint
from captioner.models.discriminator import Discriminator, whole_captions


def test_a_discriminator_reads_no_further_than_the_end(checkpoint: Checkpoint) -> None:
    judge = Discriminator(checkpoint.model).eval()
    torch.nn.init.normal_(judge.decoder.lm_head.weight)
    features = checkpoint.model.vision.features(torch.randn(2, 3, 64, 64))
    captions = torch.randint(5, 300, (2, 3, 7))
    ends = torch.tensor([[6, 3, 4], [2, 5, 6]])
    args = (features.values, features.grid, features.prefix)
    verdicts = judge(*args, captions, ends)
    assert verdicts.shape == (2, 3)
    assert verdicts.dtype == torch.float32
    changed = captions.clone()
    for b in range(2):
        for k in range(3):
            changed[b, k, ends[b, k] + 1 :] = 9
    torch.testing.assert_close(judge(*args, changed, ends), verdicts)
    assert not torch.allclose(judge(*args, changed.roll(1, 0), ends), verdicts)
    other = checkpoint.model.vision.features(torch.randn(2, 3, 64, 64))
    assert not torch.allclose(judge(other.values, other.grid, other.prefix, captions, ends), verdicts)


def test_it_is_a_copy_that_starts_undecided(checkpoint: Checkpoint) -> None:
    model = checkpoint.model
    judge = Discriminator(model)
    features = model.vision.features(torch.randn(1, 3, 64, 64))
    captions, ends = torch.tensor([[[1, 20, 30, 2]]]), torch.tensor([[3]])
    assert judge(features.values, features.grid, features.prefix, captions, ends).tolist() == [[0.0]]
    ours = {id(p) for p in judge.parameters()}
    assert not ours & {id(p) for p in model.parameters()}
    assert not [name for name in judge.state_dict() if "backbone" in name]
    assert torch.equal(judge.decoder.token_embedding.weight, model.decoder.token_embedding.weight)


def test_whole_captions_end_where_they_end() -> None:
    tokens = torch.tensor([[[1, 5, 6, 0], [1, 7, 0, 0], [0, 0, 0, 0]]])
    targets = torch.tensor([[[5, 6, 2, 0], [7, 2, 0, 0], [0, 0, 0, 0]]])
    weights = torch.tensor([[[1.0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]])  # the second was cut before its end
    whole, ends = whole_captions(tokens, targets, weights, context=64)
    assert whole.tolist() == [[[1, 5, 6, 2, 0], [1, 7, 2, 0, 0], [0, 0, 0, 0, 0]]]
    assert ends.tolist() == [[3, 1, 0]]
    whole, ends = whole_captions(tokens, targets, weights, context=3)
    assert whole.tolist() == [[[1, 5, 6], [1, 7, 2], [0, 0, 0]]]
    assert ends.tolist() == [[2, 1, 0]]
