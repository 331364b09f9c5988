"""Infilling is learnt from both sides, and captioning is not forgotten."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.checkpoint import Checkpoint, load
from captioner.config import GenerationConfig, TextConfig
from captioner.data.images import open_image
from captioner.data.transforms import preprocess
from captioner.generation.likelihood import score_captions
from captioner.generation.refine import infill
from captioner.generation.words import word_spans
from captioner.models.captioner import Captioner
from captioner.text import CaptionTokenizer, train_tokenizer
from captioner.training import step
from captioner.training.batches import Batch
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.tasks import Data
from captioner.training.tasks.cross_entropy import CrossEntropy
from captioner.training.tasks.infilling import Gaps, Infilling, gap_id, gaps_and_middles

from ...text.wordpiece import wordpiece

Make = Callable[..., Recipe]
SAID = ("a brown dog runs in deep snow", "two people", "größe", "a dog")


@pytest.fixture(scope="module")
def tokenizer() -> CaptionTokenizer:
    return train_tokenizer([*SAID, "a brown dog"] * 3, 280)


def test_a_gap_is_one_to_four_words_of_the_caption(tokenizer: CaptionTokenizer) -> None:
    ids = tuple(tokenizer.encode(SAID[0]))
    spans = word_spans(ids, tokenizer)
    assert len(spans) == 7 < len(ids)
    gaps, gap = Gaps(tokenizer, 60, share=1.0), tokenizer.config.pad_id
    seen = set()
    for seed in range(400):
        found = gaps(ids, random.Random(seed))
        left, right, middle = (
            found[: found.index(gap)],
            found[found.index(gap) + 1 : len(found) - found[::-1].index(gap) - 1],
            found[len(found) - found[::-1].index(gap) :],
        )
        assert found.count(gap) == 2
        assert left + middle + right == ids
        starts = [start for start, _ in spans]
        first = starts.index(len(left))
        words = len([start for start, _ in spans if len(left) <= start < len(left) + len(middle)])
        seen.add((first, words))
        assert len(left) + len(middle) in [*starts, len(ids)]
    assert seen == {(first, words) for words in (1, 2, 3, 4) for first in range(8 - words)}


def test_gaps_of_wordpiece_are_whole_words(tmp_path: Path) -> None:
    bert = wordpiece(tmp_path)
    ids = tuple(bert.encode("a man's t-shirt, a doghouse"))
    words, gap = {"a", "man's", "t-shirt,", "doghouse"}, bert.config.pad_id
    for seed in range(60):
        found = Gaps(bert, 60, share=1.0)(ids, random.Random(seed))
        middle = found[len(found) - found[::-1].index(gap) :]
        assert middle
        assert {*bert.decode(middle).replace("t-shirt ", "t-shirt, ").split()} <= words


def test_half_of_the_captions_get_one_and_the_draws_decide(tokenizer: CaptionTokenizer) -> None:
    ids = tuple(tokenizer.encode(SAID[0]))
    gaps, gap = Gaps(tokenizer, 60), tokenizer.config.pad_id
    found = [gaps(ids, random.Random(seed)) for seed in range(400)]
    assert 160 < sum(gap in caption for caption in found) < 240
    assert {caption for caption in found if gap not in caption} == {ids}
    assert found == [gaps(ids, random.Random(seed)) for seed in range(400)]


def test_a_caption_that_cannot_have_a_gap_stays(tokenizer: CaptionTokenizer) -> None:
    ids = tuple(tokenizer.encode(SAID[3]))
    draw = random.Random(0)
    assert Gaps(tokenizer, len(ids) + 1, share=1.0)(ids, draw) == ids
    assert len(Gaps(tokenizer, len(ids) + 2, share=1.0)(ids, draw)) == len(ids) + 2
    assert Gaps(tokenizer, 60, share=1.0)((), draw) == ()


@pytest.mark.parametrize("start", [1, 0])
def test_what_is_predicted_by_hand(start: int) -> None:
    """Padding and gap are 0; GPT-2's checkpoints have one token for start, end and padding."""
    tokens = torch.tensor([[[start, 5, 0, 6, 0, 7, 8, 0], [start, 5, 6, 0, 0, 0, 0, 0], [start, 0, 0, 5, 0, 0, 0, 0]]])
    weights = torch.tensor([[[1] * 7 + [0], [1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0]]]).float()
    gap, middle = gaps_and_middles(tokens, weights, 0)
    assert gap[..., 0].tolist() == [[True, False, True]]
    assert middle.int().tolist() == [[[0, 0, 0, 0, 1, 1, 1, 0], [0] * 8, [0, 0, 1, 1, 0, 0, 0, 0]]]


def test_the_gap_is_the_fill_unless_the_checkpoint_has_one() -> None:
    assert gap_id(TextConfig(bos_id=1, eos_id=2, pad_id=0)) == 0
    assert gap_id(TextConfig(bos_id=1, eos_id=2, pad_id=0, gap_id=9)) == 9


def task_of(recipe: Recipe, data: Data, checkpoint: Checkpoint) -> Infilling:
    return Infilling(recipe, recipe.stages[0], data, checkpoint.tokenizer)


def first_batch(task: CrossEntropy, images: int) -> Batch:
    items = task.items(None)
    return task.collate()([items[(place, 100 + place)] for place in range(images)])


def test_a_batch_is_that_of_plain_captioning_but_for_the_gaps(recipe: Make, data: Data, checkpoint: Checkpoint) -> None:
    plan = recipe({"task": "infilling"}, captions_per_image=1)
    task = task_of(plan, data, checkpoint)
    given = first_batch(task, 8)
    plain = first_batch(CrossEntropy(plan, plan.stages[0], data, checkpoint.tokenizer), 8)
    assert isinstance(given.image, torch.Tensor)
    assert isinstance(plain.image, torch.Tensor)
    assert torch.equal(given.image, plain.image)
    pad = checkpoint.tokenizer.config.pad_id
    kinds = set()
    for ours, theirs, w, v in zip(given.targets, plain.targets, given.weights, plain.weights, strict=True):
        written, caption = ours[w > 0].tolist(), theirs[v > 0].tolist()
        assert sorted(token for token in written if token != pad) == sorted(caption)
        kinds.add(len(written) - len(caption))
    assert kinds == {0, 2}


def test_the_loss_by_hand(recipe: Make, data: Data, checkpoint: Checkpoint) -> None:
    """The reference computes each caption alone, without padding: its middle and end, or all of it."""
    task = task_of(recipe({"task": "infilling"}), data, checkpoint)
    model = checkpoint.model.eval()
    given = first_batch(task, 4)
    batch = task.prepare(model, given)
    assert isinstance(given.image, torch.Tensor)
    ids = checkpoint.tokenizer.config
    wanted = count = gaps = 0.0
    for b in range(4):
        for k in range(given.tokens.shape[1]):
            written = given.targets[b, k][given.weights[b, k] > 0].tolist()
            with torch.no_grad():
                logits = model(torch.tensor([[[ids.bos_id, *written[:-1]]]]), given.image[b : b + 1]).logits
            log_probs = logits[0, 0].log_softmax(-1)
            begin = 0
            if ids.pad_id in written:
                begin = len(written) - written[::-1].index(ids.pad_id)
                gaps += 1
            wanted -= sum(float(log_probs[place, written[place]]) for place in range(begin, len(written)))
            count += len(written) - begin
    assert 0 < gaps < 4 * given.tokens.shape[1]
    assert float(batch.weights.sum()) == count
    assert float(task.loss(model, batch)["loss"].detach()) == pytest.approx(wanted, rel=1e-4)


def test_the_middles_are_judged_beside_the_captions(recipe: Make, data: Data, checkpoint: Checkpoint) -> None:
    """Captions are scored like in cross-entropy, middles by a pass over each; nothing is random."""
    plan = recipe({"task": "infilling"})
    task = task_of(plan, data, checkpoint)
    model, device = checkpoint.model.eval(), torch.device("cpu")
    plain = CrossEntropy(plan, plan.stages[0], data, checkpoint.tokenizer).validate(model, None, device)
    found = task.validate(model, None, device)
    assert found == task.validate(model, None, device)
    assert {name: found[name] for name in plain if name != "score"} == {k: v for k, v in plain.items() if k != "score"}
    assert found["score"] == pytest.approx(plain["score"] - found["infill_perplexity"])

    items, ids = task.captions(data.validation, None, views="plain"), checkpoint.tokenizer.config
    total = count = 0.0
    for place, sample in enumerate(data.validation):
        item = items[(place, 0)]
        assert item.image is not None
        for k, caption in enumerate(item.captions):
            written = Gaps(checkpoint.tokenizer, 31, share=1.0)(caption, random.Random(f"{sample.name} {k}"))
            begin = len(written) - written[::-1].index(ids.pad_id)
            with torch.no_grad():
                logits = model(torch.tensor([[[ids.bos_id, *written]]]), item.image[None]).logits
            log_probs = logits[0, 0].log_softmax(-1)
            targets = [*written, ids.eos_id]
            total -= sum(float(log_probs[place, targets[place]]) for place in range(begin, len(targets)))
            count += len(targets) - begin
    assert found["infill_nll"] == pytest.approx(total / count, rel=1e-4)


def stage(**settings: Any) -> dict[str, Any]:
    return {"batch_size": 8, "lr": 3e-3, "vision": "all", "vision_lr": 1e-3, "weight_decay": 0.0, **settings}


@pytest.fixture(scope="module")
def filler(recipe: Make, data: Data, learnt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the captioner of eight pictures on infilling."""
    one = tuple(replace(sample, captions=sample.captions[:1]) for sample in data.train)
    plan = recipe(stage(task="infilling", epochs=200, validate_every=100), captions_per_image=1)
    out = tmp_path_factory.mktemp("filler") / "run"
    train(plan, replace(data, train=one, validation=one), out, start=load(learnt))
    return out


def validations(run: Path) -> list[dict[str, float]]:
    lines = (run / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if '"validation"' in line]


def test_steps_improve_infilling_and_keep_captioning(filler: Path) -> None:
    start, *_, end = validations(filler)
    assert end["infill_nll"] < 0.4 * start["infill_nll"]
    assert end["bleu4"] == start["bleu4"] == pytest.approx(100)
    assert load(filler).config.text.gap_id == load(filler).config.text.pad_id


def test_what_has_learnt_it_repairs_a_caption(filler: Path, learnt: Path, data: Data) -> None:
    """From both sides, a wrong word in the middle is corrected, and the words after it stay."""
    assert repaired(load(filler), data) >= 4 > 1 >= repaired(load(learnt), data)


def repaired(checkpoint: Checkpoint, data: Data) -> int:
    """Return how many of the eight captions are restored after a word in the middle is replaced."""
    model, text = checkpoint.model, checkpoint.config.text
    tokenizer = CaptionTokenizer(checkpoint.tokenizer.model, replace(text, gap_id=text.pad_id))
    count = 0
    for sample in data.train:
        pixels = preprocess(open_image(sample.path), checkpoint.config.preprocess)[None]
        with torch.inference_mode():
            memory = model.remember(model.encode_image(pixels))
        said = sample.captions[0].split()
        said[len(said) // 2] = "zebra"
        (draft,) = score_captions(model.decoder, memory, [[tokenizer.encode(" ".join(said))]], text)[0]
        found = infill(model.decoder, memory, [draft], tokenizer, GenerationConfig())[0]
        count += sample.captions[0] in [tokenizer.decode(caption) for caption in found]
    return count


def test_a_start_that_cannot_fill_gaps_does_not_claim_to(
    recipe: Make, data: Data, learnt: Path, tmp_path: Path
) -> None:
    """It is not kept as the best either, though it captions best."""
    plan = recipe(stage(task="infilling", epochs=1))

    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(step, "set_rate", stop)
        with pytest.raises(Stop):
            train(plan, data, tmp_path / "run", start=load(learnt))
    assert load(tmp_path / "run").config.text.gap_id is None


@pytest.mark.parametrize("saves", [4, 8])
def test_a_run_cut_off_ends_as_the_unbroken_one(
    saves: int, recipe: Make, data: Data, tmp_path: Path, goes_on: Callable[..., Path]
) -> None:
    """The stages are captions, gaps and captions again: the checkpoint remembers both."""
    small = {"batch_size": 4, "epochs": 1, "ema": 0.9}
    plan = recipe(small, {**small, "task": "infilling", "epochs": 2}, small, decoder={"dropout": 0.2})
    cut = goes_on(lambda out, resume: train(plan, data, out, resume=resume), saves)
    for run in (tmp_path / "whole", cut):
        assert load(run / "last").config.text.gap_id == 0
    assert isinstance(load(cut).model, Captioner)


def test_held_out_middles_begin_with_their_language(recipe: Make, data: Data, bilingual: Path) -> None:
    found = load(bilingual / "best")
    both = tuple(replace(sample, captions=(sample.captions[0], "三角形")) for sample in data.train)
    task = task_of(recipe({"task": "infilling"}, captions_per_image=2), replace(data, train=both), found)
    batch = first_batch(task, 4)
    seen: list[torch.Tensor] = []

    class Recorded(torch.nn.Module):
        def forward(self, tokens: torch.Tensor, memory: Any) -> Any:
            seen.append(tokens)
            return found.model.decoder(tokens, memory)

    with torch.inference_mode():
        memory = found.model.remember(found.model.encode_image(batch.image))
        task.judge(Recorded(), memory, batch)  # type: ignore[arg-type]
    assert set(batch.tokens[..., 0].flatten().tolist()) == set(found.config.text.languages.values())
    assert len(seen) == 2
    assert all(torch.equal(tokens[:, 0], batch.tokens[..., 0].flatten()) for tokens in seen)
