"""A benchmark of the training loop against a plain Hugging Face Trainer on a model of the same size.

    python scripts/bench_training.py DATA [--images 8] [--steps 10] [--rounds 3]

Both train a ViT-S/16 at 224 pixels and a GPT-2-like decoder (width 384, 4 layers) from random weights, on the same
photos with five captions each, in bf16 under autocast if the machine multiplies it, with AdamW and clipping. A step of
captioner takes N images with their five captions; a step of Hugging Face takes N x 5 pairs of a caption and its image,
the form of its examples. ``eager`` is Hugging Face without fused attention. Rounds are interleaved, a figure is the
median of the rounds, and the first two steps of a round do not count. The bound divides the machine's measured FLOPs
per second of matrix products by the FLOPs of a step, counted by torch. Needs ``pip install transformers``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    GPT2Config,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
)

from captioner.checkpoint import Checkpoint
from captioner.config import CaptionerConfig, from_dict
from captioner.data.images import open_image
from captioner.data.transforms import preprocess
from captioner.doctor.machine import cpu_name
from captioner.models.captioner import Captioner
from captioner.text import CaptionTokenizer
from captioner.training import step
from captioner.training import trainer as ours
from captioner.training.batches import Batch, Collate, Item
from captioner.training.optim import set_rate
from captioner.training.recipe import Recipe
from captioner.training.setup import accelerator, new_captioner, read_data
from captioner.training.tasks import Data
from captioner.training.tasks.cross_entropy import CrossEntropy

ROOT = Path(__file__).resolve().parents[1]
CAPTIONS = 5
WARM = 2  # steps of a round that do not count


def recipe(images: int, epochs: int) -> Recipe:
    """Return a recipe that trains the whole model, with global attention in every layer like GPT-2."""
    stage = {"batch_size": images, "epochs": epochs, "vision": "all", "label_smoothing": 0.0}
    return from_dict(
        Recipe,
        {
            "vision_weights": "random",
            "captions_per_image": CAPTIONS,
            "vision": {"backbone": "vit_small_patch16_224"},
            "preprocess": {"size": 224},
            "decoder": {"width": 384, "layers": 4, "heads": 6, "context": 64},
            "stages": [stage],
        },
    )


def captioner(plan: Recipe, tokenizer: CaptionTokenizer) -> Checkpoint:
    config = CaptionerConfig(
        vision=plan.vision,
        decoder=plan.decoder_config(tokenizer.vocab_size),
        text=tokenizer.config,
        preprocess=plan.preprocess,
    )
    return Checkpoint(Captioner(config), tokenizer)


class Pairs(torch.utils.data.Dataset[dict[str, Any]]):
    """A dataset with an example per caption, each of which opens the image."""

    def __init__(self, data: Data, tokenizer: CaptionTokenizer, plan: Recipe) -> None:
        self.pairs = [(sample, caption) for sample in data.train for caption in sample.captions]
        self.tokenizer, self.preprocess = tokenizer, plan.preprocess

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, place: int) -> dict[str, Any]:
        sample, caption = self.pairs[place]
        ids = [*self.tokenizer.encode(caption)[:63], self.tokenizer.config.eos_id]
        return {"pixel_values": preprocess(open_image(sample.path), self.preprocess), "labels": torch.tensor(ids)}


def pad(examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    labels = torch.nn.utils.rnn.pad_sequence([e["labels"] for e in examples], batch_first=True, padding_value=-100)
    return {"pixel_values": torch.stack([e["pixel_values"] for e in examples]), "labels": labels}


def hugging_face(tokenizer: CaptionTokenizer, attention: str) -> VisionEncoderDecoderModel:
    vit = ViTConfig(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536)
    gpt2 = GPT2Config(
        vocab_size=tokenizer.vocab_size,
        n_positions=64,
        n_embd=384,
        n_layer=4,
        n_head=6,
        add_cross_attention=True,
        bos_token_id=tokenizer.config.bos_id,
        eos_token_id=tokenizer.config.eos_id,
    )
    gpt2.is_decoder = True
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(vit, gpt2)
    config._attn_implementation = config.encoder._attn_implementation = config.decoder._attn_implementation = attention
    config.decoder_start_token_id, config.pad_token_id = tokenizer.config.bos_id, tokenizer.config.pad_id
    return VisionEncoderDecoderModel(config)


class Clock(TrainerCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.times.append(time.perf_counter())

    def step(self) -> float:
        """Return the seconds per step after the warm-up."""
        return (self.times[-1] - self.times[WARM - 1]) / (len(self.times) - WARM)


def run_ours(data: Data, tokenizer: CaptionTokenizer, images: int, steps: int) -> float:
    """Return the seconds per step of the loop of ``captioner train``."""
    plan = recipe(images, 1)
    few = Data(train=data.train[: images * steps], validation=data.validation[:1])
    clock = Clock()

    def timed(*args: Any) -> float:
        clock.on_step_end()  # a step begins when the previous one has ended
        return set_rate(*args)

    with tempfile.TemporaryDirectory() as out, mock.patch.object(step, "set_rate", timed):
        start = captioner(plan, tokenizer)
        loop = ours.Trainer(plan, few, start, Path(out), log_every=10**9)
        loop.log.say = lambda text: None  # type: ignore[method-assign]
        loop._validate = lambda *args: None  # type: ignore[method-assign]
        loop.run()
    return clock.step()


def run_hugging_face(data: Data, tokenizer: CaptionTokenizer, images: int, steps: int, attention: str) -> float:
    """Return the seconds per step of a plain ``Trainer``."""
    clock, plan = Clock(), recipe(images, 1)
    transformers.trainer.is_datasets_available = lambda: False  # it mistakes this repository's folder for the package
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            output_dir=out,
            per_device_train_batch_size=images * CAPTIONS,
            max_steps=steps,
            bf16=accelerator(plan).mixed_precision == "bf16",
            dataloader_num_workers=plan.workers,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )
        Trainer(
            hugging_face(tokenizer, attention),
            arguments,
            train_dataset=Pairs(data, tokenizer, plan),
            data_collator=pad,
            callbacks=[clock],
        ).train()
    return clock.step()


def flops(loss: Callable[[], torch.Tensor]) -> float:
    """Return the FLOPs of the forward and backward pass of one loss."""
    with FlopCounterMode(display=False) as counter:
        loss().backward()
    return float(counter.get_total_flops())


def flops_of_a_step(data: Data, tokenizer: CaptionTokenizer, images: int) -> tuple[float, float]:
    """Return the FLOPs of a step of captioner and of Hugging Face, in fp32: they are equal in any precision."""
    plan = recipe(images, 1)
    start = captioner(plan, tokenizer)
    task = CrossEntropy(plan, plan.stages[0], data, start.tokenizer)
    samples = data.train[:images]
    items = [Item(_ids(s.captions, tokenizer), torch.zeros(3, 224, 224), s.name) for s in samples]
    ids = tokenizer.config
    batch: Batch = Collate(ids.bos_id, ids.eos_id, ids.pad_id)(items)
    other = hugging_face(tokenizer, "eager")
    pairs = Pairs(Data(train=tuple(samples), validation=()), tokenizer, plan)
    examples = pad([pairs[place] for place in range(len(pairs))])
    return flops(lambda: task.loss(start.model, batch)["loss"]), flops(lambda: other(**examples).loss)


def _ids(captions: Sequence[str], tokenizer: CaptionTokenizer) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(tokenizer.encode(caption)[:63]) for caption in captions[:CAPTIONS])


def matmul_rate(dtype: torch.dtype) -> float:
    """Return the FLOPs per second of a product of the model's shape: 1600 x 384 by 384 x 1536."""
    a, b = torch.randn(1600, 384, dtype=dtype), torch.randn(384, 1536, dtype=dtype)
    best = 0.0
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(50):
            a @ b
        best = max(best, 50 * 2 * 1600 * 384 * 1536 / (time.perf_counter() - began))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder of captioned images, five captions each")
    parser.add_argument("--images", type=int, default=8, help="per step")
    parser.add_argument("--steps", type=int, default=10, help="per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--json", action="store_true", help="also print the seconds of every round, as JSON on the last line"
    )
    args = parser.parse_args()
    data = read_data([args.data], validation_images=1, report=print)
    data = Data(train=tuple(s for s in data.train if len(s.captions) == CAPTIONS), validation=data.validation)
    plan = recipe(args.images, 1)
    few = Data(train=data.train[: args.images * args.steps], validation=data.validation)
    tokenizer = new_captioner(plan, data).tokenizer
    sizes = [
        sum(p.numel() for p in model.parameters()) / 1e6
        for model in (captioner(plan, tokenizer).model, hugging_face(tokenizer, "eager"))
    ]
    bf16 = accelerator(plan).mixed_precision == "bf16"
    work = flops_of_a_step(few, tokenizer, args.images)
    runs: dict[str, Callable[[], float]] = {
        "ours": lambda: run_ours(few, tokenizer, args.images, args.steps),
        "Hugging Face": lambda: run_hugging_face(few, tokenizer, args.images, args.steps, "sdpa"),
        "Hugging Face, eager": lambda: run_hugging_face(few, tokenizer, args.images, args.steps, "eager"),
    }
    seconds_of: dict[str, list[float]] = {name: [] for name in runs}
    rates: list[float] = []
    for _ in range(args.rounds):
        for name, run in runs.items():
            rates.append(matmul_rate(torch.bfloat16 if bf16 else torch.float32))
            seconds_of[name].append(run())
    rate = max(rates)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    print(
        f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"commit {commit.strip()}; {'bf16' if bf16 else 'fp32'}, {args.images} images x {CAPTIONS} captions a step, "
        f"{args.rounds} interleaved rounds of {args.steps - WARM} steps; matrix products {rate / 1e12:.2f} TFLOP/s\n"
    )
    print("| | parameters | images per second | captions per second | TFLOP a step | bound, images per second |")
    print("|---|---|---|---|---|---|")
    for name, seconds in seconds_of.items():
        own = name == "ours"
        took, done = statistics.median(seconds), work[0] if own else work[1]
        print(
            f"| {name} | {sizes[not own]:.1f}M | {args.images / took:.2f} | {args.images * CAPTIONS / took:.1f} | "
            f"{done / 1e12:.3f} | {args.images * rate / done:.1f} |"
        )
    print()
    for name in list(seconds_of)[1:]:
        ratios = [b / a for a, b in zip(seconds_of["ours"], seconds_of[name], strict=True)]
        print(f"ours is {statistics.median(ratios):.2f} x {name} (rounds {', '.join(f'{r:.2f}' for r in ratios)})")
    if args.json:
        print(json.dumps(seconds_of))


if __name__ == "__main__":
    main()
