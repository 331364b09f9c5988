"""Pruning keeps the most important heads and hidden units, and the rest of the captioner as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.checkpoint import Checkpoint, load, save
from captioner.compression import recovery
from captioner.compression.pruning import best, choose_sizes, layer_parameters, prune, sizes_of
from captioner.compression.scores import Scores, score
from captioner.config import (
    CaptionerConfig,
    DecoderConfig,
    GenerationConfig,
    HeadsConfig,
    PreprocessConfig,
    VisionConfig,
)
from captioner.data.samples import Sample
from captioner.errors import DataError, UsageError
from captioner.inference import prepare
from captioner.models.captioner import Captioner
from captioner.text import train_tokenizer
from captioner.training.tasks import Data

TOKENIZER = train_tokenizer(["a dog on a beach", "a cat in a box"], 280)
LAYERS, HEADS, HIDDEN = 2, 4, 64


def make(**changed: Any) -> Checkpoint:
    torch.manual_seed(0)
    decoder = DecoderConfig(
        vocab_size=TOKENIZER.vocab_size,
        width=32,
        layers=LAYERS,
        heads=HEADS,
        mlp_width=HIDDEN,
        self_pattern="M",
        cross_pattern="M",
        context=16,
    )
    config = CaptionerConfig(
        vision=VisionConfig(backbone="test_efficientnet"),
        decoder=replace(decoder, **changed),
        text=TOKENIZER.config,
        preprocess=PreprocessConfig(size=32),
    )
    model = Captioner(config).eval()
    for parameter in model.decoder.parameters():  # biases too
        torch.nn.init.normal_(parameter, std=0.1)
    return Checkpoint(model, TOKENIZER, GenerationConfig())


def scores(seed: int = 0) -> Scores:
    draw = torch.Generator().manual_seed(seed)
    return Scores(
        words=torch.rand(LAYERS, HEADS, generator=draw),
        image=torch.rand(LAYERS, HEADS, generator=draw),
        hidden=torch.rand(LAYERS, HIDDEN, generator=draw),
        images=3,
    )


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([[1, 5, 9, 30, 31, 4], [1, 7, 2, 8, 8, 8]])
    memory = model.decoder.remember(model.encode_image(pixels))
    return model.decoder(tokens, memory)


def silence(checkpoint: Checkpoint, given: Scores, heads: int, hidden: int) -> Captioner:
    """Return the whole model with the outputs of all units of low score set to zero."""
    model = make(**({"prefix": 3} if checkpoint.config.decoder.prefix else {})).model
    model.load_state_dict(checkpoint.model.state_dict())
    with torch.no_grad():
        for layer, block in enumerate(model.decoder.blocks):
            reads: Any = block
            for attention, values in ((reads.self_attn, given.words), (reads.cross_attn, given.image)):
                gone = torch.ones(HEADS, dtype=torch.bool)
                gone[best(values[layer], heads)] = False
                attention.out_proj.weight.view(32, HEADS, -1)[:, gone] = 0
            gone = torch.ones(HIDDEN, dtype=torch.bool)
            gone[best(given.hidden[layer], hidden)] = False
            reads.fc2.weight[:, gone] = 0
    return model


@pytest.mark.parametrize("prefix", [0, 3])
@pytest.mark.parametrize("share", [0.8, 0.5, 0.3])
def test_what_stays_computes_the_same(share: float, prefix: int, tmp_path: Path) -> None:
    whole, given = make(prefix=prefix), scores()
    small = prune(whole, given, share)
    sizes = sizes_of(small.config.decoder)
    assert sizes.hidden < HIDDEN or sizes.heads < HEADS
    assert layer_parameters(whole.config.decoder, sizes) <= share * layer_parameters(
        whole.config.decoder, sizes_of(whole.config.decoder)
    )
    expected = logits(silence(whole, given, sizes.heads, sizes.hidden))
    torch.testing.assert_close(logits(small.model), expected)
    loaded = load(save(small, tmp_path / "small"))
    torch.testing.assert_close(logits(loaded.model), expected)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_decoding_runs_in_the_native_step(precision: Any) -> None:
    """Word by word with a cache gives the logits of one pass, with heads narrower together than the width."""
    small = prune(make(), replace(scores(), hidden=torch.full((LAYERS, HIDDEN), 9.0)), 0.6)
    assert small.config.decoder.heads_width < small.config.decoder.width
    prepared = prepare(small, precision).model
    tokens = torch.tensor([[1, 5, 9, 30]])
    with torch.inference_mode():
        pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        memory = prepared.decoder.remember(prepared.encode_image(pixels))
        cache = prepared.decoder.new_cache(1, 4)
        steps = [prepared.decoder(tokens[:, at : at + 1], memory, cache) for at in range(4)]
        whole = small.model.decoder(tokens, small.model.decoder.remember(small.model.encode_image(pixels)))
    found = torch.cat(steps, dim=1)
    bound = 1e-4 if precision == "fp32" else 0.05
    assert float((found - whole).norm() / whole.norm()) < bound


def test_the_cheapest_units_go_first() -> None:
    config, given = make().config.decoder, scores()
    idle = replace(given, hidden=torch.zeros(LAYERS, HIDDEN))
    sizes = choose_sizes(idle, config, 0.75)
    assert sizes.heads == HEADS
    assert sizes.hidden < HIDDEN
    dull = replace(given, words=torch.zeros(LAYERS, HEADS), image=torch.zeros(LAYERS, HEADS))
    sizes = choose_sizes(dull, config, 0.75)
    assert sizes.heads < HEADS
    assert sizes.hidden == HIDDEN


def test_impossible_shares() -> None:
    with pytest.raises(UsageError, match=r"--prune 0\.01 is too small"):
        prune(make(), scores(), 0.01)
    for share in (0.0, 1.0, -1.0, 2.0, float("nan")):
        with pytest.raises(UsageError, match="above 0 and below 1"):
            prune(make(), scores(), share)


def test_refuses_a_captioner_that_answers_questions(data: Data, tmp_path: Path) -> None:
    asking = make(cross_pattern="G")
    question = replace(asking.config.decoder, causal=False, head="none", self_pattern="G")
    text = replace(asking.config.text, question_id=5)
    asking.model.config = replace(asking.config, text=text, question=question)
    calls: list[Callable[[], object]] = [
        lambda: score(asking, data.train),
        lambda: prune(asking, scores(), 0.5),
        lambda: recovery.recover(asking, "teacher", data, tmp_path / "run", epochs=1, report=print),
    ]
    for call in calls:
        with pytest.raises(UsageError, match=r"^a captioner that answers questions cannot be pruned: .*; leave out --"):
            call()
    assert not any(tmp_path.iterdir())


def test_heads_that_pool_by_attention_keep_their_number() -> None:
    whole = make()
    whole.model.add_heads(HeadsConfig(width=16))
    small = prune(whole, scores(), 0.8)
    assert small.config.decoder.heads == HEADS
    assert small.config.decoder.mlp_width is not None
    assert small.config.decoder.mlp_width < HIDDEN


def test_scores_are_the_change_of_the_loss(checkpoint: Checkpoint, data: Data) -> None:
    """The loss changes by the score times a small change of the unit's output."""
    sample = data.train[:1]
    given = score(checkpoint, sample)
    assert given.images == 1
    assert all(not p.requires_grad or p.grad is None for p in checkpoint.model.parameters())
    model: Any = checkpoint.model
    block, small = model.decoder.blocks[0], 1e-2
    unit = int(given.hidden[0].argmax())

    def loss(factor: float) -> float:
        before = block.fc2.weight.detach().clone()
        with torch.no_grad():
            block.fc2.weight[:, unit] *= factor
        value = mean_loss(checkpoint, sample)
        with torch.no_grad():
            block.fc2.weight.copy_(before)
        return value

    slope = (loss(1 + small) - loss(1 - small)) / (2 * small)
    assert abs(slope) == pytest.approx(float(given.hidden[0, unit]), rel=0.05, abs=1e-4)


def mean_loss(checkpoint: Checkpoint, samples: Any) -> float:
    from captioner.training.recipe import Recipe, Stage
    from captioner.training.run import with_architecture
    from captioner.training.tasks.base import weighted_cross_entropy
    from captioner.training.tasks.cross_entropy import CrossEntropy

    stage = Stage()
    recipe = with_architecture(Recipe(captions_per_image=5, stages=(stage,)), checkpoint)
    task = CrossEntropy(recipe, stage, Data(train=samples, validation=()), checkpoint.tokenizer)
    batch = task.collate()([task.captions(samples, None, views="plain")[(0, 0)]])
    with torch.no_grad():
        loss, _ = weighted_cross_entropy(
            checkpoint.model(batch.tokens, batch.image).logits, batch.targets, batch.weights
        )
    return float(loss) / len(batch.captions[0])


def test_photos_that_cannot_be_read_are_skipped(checkpoint: Checkpoint, data: Data, tmp_path: Path) -> None:
    broken = replace(data.train[0], path=tmp_path / "missing.png")
    assert score(checkpoint, [broken, data.train[1]]).images == 1
    with pytest.raises(DataError, match="none of the photos can be read"):
        score(checkpoint, [broken])


def test_a_pruned_captioner_recovers(learnt: Path, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way: prune, distil, trim, pack; the result loads and its card says what was done."""
    from captioner.compression import Compression, Pruning, compress

    def quick(teacher: str, epochs: int) -> Any:
        recipe = plain(teacher, epochs)
        return replace(recipe, workers=0, stages=(replace(recipe.stages[0], lr=3e-3, batch_size=8, ema=0.5),))

    plain: Callable[[str, int], Any] = recovery.recovery_recipe
    monkeypatch.setattr(recovery, "recovery_recipe", quick)
    whole = load(learnt / "best")
    few: tuple[Sample, ...] = tuple(replace(s, captions=s.captions[:1]) for s in data.train)
    taught = Data(train=few, validation=few)
    losses = {}
    for epochs in (0, 20):
        steps = Compression(
            pruning=Pruning(share=0.6, data=taught, epochs=epochs, folder=tmp_path / "run"),
            captions=[caption for sample in few for caption in sample.captions],
            weights="int4",
        )
        small = compress(whole, steps)
        assert not (tmp_path / "run").exists()
        losses[epochs] = sum(mean_loss(small, [sample]) for sample in few)
        loaded = load(save(small, tmp_path / f"small{epochs}", dtype="int4"))
        assert f"then {epochs} epochs of distillation" in loaded.card
        assert "stored its weights in int4" in loaded.card
        assert loaded.config.decoder.vocab_size < whole.config.decoder.vocab_size
    assert losses[20] < losses[0]
