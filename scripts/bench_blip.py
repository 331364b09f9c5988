"""A benchmark of BLIP against transformers on the same weights, as a Markdown table with machine and commit.

    python scripts/bench_blip.py [--rows captions answers memory encoder] [--size large]

The weights are random, of BLIP base's shape (ViT-B/16 at 384 pixels) or large's (ViT-L/16). Both sides get the
same pixels; captions have 3 beams and 20 tokens, answers are greedy with 10 tokens. In fp32 the run fails unless the
tokens are equal. ``encoder`` compares the ViT with the largest product that the CPU does. See docs/speed.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from bench_generation import HEADER, in_turns, row, status
from torch import Tensor

from captioner.checkpoint.hugging_face import convert
from captioner.config import GenerationConfig, TextConfig
from captioner.doctor.machine import cpu_name
from captioner.generation.processors import minimum_length
from captioner.generation.rules import Rules
from captioner.generation.search import search
from captioner.inference import Precision
from captioner.inference.prepared import prepare_model
from captioner.models.decoder import ImageMemory
from captioner.system.allocation import keep_freed_memory

CAPTION, ANSWER, BEAMS, SIDE = 20, 10, 3, 384
GROUPS = ("captions", "answers", "memory", "encoder")
WORDS = ["[PAD]", "[UNK]", "[unused0]", "[unused1]", *["how", "many", "dogs", "are", "in", "the", "picture", "?"]]
SIZES = {"base": (768, 12, 16), "large": (1024, 24, 16), "tiny": (24, 2, 96)}  # width, layers and patch size of the ViT
CLS, SEP = 101, 102
QUESTION = [CLS, *range(4, len(WORDS)), SEP]  # tokens of the words above
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
TARGETS = {"fp32": {1: 1.4, 8: 1.5}, "bf16": {1: 6.0, 8: 6.0}, "int8": {1: 6.0, 8: 6.0}}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=GROUPS, default=GROUPS, help="groups of rows (default: all)")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", choices=SIZES, default="base", help="tiny: to test the script")
    parser.add_argument("--child", nargs=2, metavar=("SIDE", "MODEL"), help=argparse.SUPPRESS)  # one side of ``memory``
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    if args.child:
        print(json.dumps(peak(*args.child)))
        return
    keep_freed_memory()
    print(f"{cpu_name()}, {args.threads} threads, torch {torch.__version__}\n\n{HEADER}")
    with tempfile.TemporaryDirectory() as folder:
        for task, group in (("ConditionalGeneration", "captions"), ("QuestionAnswering", "answers")):
            if group in args.rows or (group == "captions" and {"memory", "encoder"} & set(args.rows)):
                make_model(f"{folder}/{group}", task, args.size)
        for group in ("captions", "answers"):
            if group in args.rows:
                compare(f"{folder}/{group}", args)
        if "memory" in args.rows:
            memory(f"{folder}/captions", args)
        if "encoder" in args.rows:
            encoder(f"{folder}/captions", args)


def make_model(folder: str, task: str, size: str) -> None:
    """Save a random BLIP of a size, one of ``SIZES``, in transformers' format."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(0)
    width, layers, patch = SIZES[size]
    vision: dict[str, Any] = {"image_size": SIDE, "patch_size": patch}
    vision |= {"hidden_size": width, "num_hidden_layers": layers}
    vision |= {"num_attention_heads": max(2, width // 64), "intermediate_size": 4 * width}
    text: dict[str, Any] = {"num_attention_heads": 12}
    if size == "tiny":
        text = {"num_attention_heads": 2, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    config = transformers.BlipConfig(text_config=text, vision_config=vision)
    model = getattr(transformers, f"BlipFor{task}")(config)
    for name, parameter in model.named_parameters():
        if "position_embedding" in name or "class_embedding" in name:  # zeros at first, and no photo unlike another
            torch.nn.init.normal_(parameter, std=0.02)
    model.save_pretrained(folder)
    transformers.BlipImageProcessor().save_pretrained(folder)
    words = WORDS + [f"[unused{n}]" for n in range(2, 30524 - len(WORDS))]
    words[CLS], words[SEP] = "[CLS]", "[SEP]"
    (Path(folder) / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")


class Peer:
    """BLIP of transformers, in fp32."""

    def __init__(self, folder: str) -> None:
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.answers = folder.endswith("answers")
        kind = transformers.BlipForQuestionAnswering if self.answers else transformers.BlipForConditionalGeneration
        self.model = kind.from_pretrained(folder).eval()

    @torch.inference_mode()
    def write(self, pixels: Tensor, question: Tensor) -> list[tuple[int, ...]]:
        """Return the captions, or answers, of B images (B, 3, 384, 384)."""
        if self.answers:
            many = {"num_beams": 1, "min_new_tokens": ANSWER, "max_new_tokens": ANSWER}
            tokens = self.model.generate(pixel_values=pixels, input_ids=question.expand(len(pixels), -1), **many)
        else:
            many = {"num_beams": BEAMS, "min_new_tokens": CAPTION, "max_new_tokens": CAPTION}
            tokens = self.model.generate(pixel_values=pixels, **many)
        return [tuple(row[1:].tolist()) for row in tokens]


class Ours:
    """The same model, imported and prepared in a precision."""

    def __init__(self, folder: str, precision: Precision) -> None:
        checkpoint = convert(folder)
        self.answers = folder.endswith("answers")
        self.text: TextConfig = checkpoint.config.text
        self.model = prepare_model(checkpoint.model, precision, keep=False)
        self.most = ANSWER if self.answers else CAPTION
        self.rules = Rules(processors=(minimum_length(self.most + 1, self.text.eos_id),))

    def read(self, pixels: Tensor, question: Tensor) -> ImageMemory:
        """Return what the decoder reads."""
        encoded = self.model.encode_image(pixels)
        if not self.answers:
            return self.model.remember(encoded)
        asked = self.model.encode_question(encoded, question.expand(len(pixels), -1))
        return self.model.decoder.remember(asked)

    @torch.inference_mode()
    def write(self, pixels: Tensor, question: Tensor) -> list[tuple[int, ...]]:
        """Return the captions, or answers, of B images (B, 3, 384, 384)."""
        beams = 1 if self.answers else BEAMS
        config = GenerationConfig(beams=beams, max_tokens=self.most, length_penalty=1.0)
        memory = self.read(pixels, question)
        return [found[0].tokens for found in search(self.model.decoder, memory, self.text, config, rules=self.rules)]


def compare(folder: str, args: argparse.Namespace) -> None:
    """Print a row per precision and batch size."""
    peer = Peer(folder)
    question = torch.tensor([QUESTION])
    models = {precision: Ours(folder, precision) for precision in args.precisions}
    for precision, ours in models.items():
        for batch in (1, 8):
            pixels = torch.randn(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
            if precision == "fp32" and peer.write(pixels, question) != ours.write(pixels, question):
                raise SystemExit(f"the tokens of batch {batch} differ in fp32")
            write: list[Callable[[], object]] = [
                lambda pixels=pixels, side=side: side.write(pixels, question)  # type: ignore[misc]
                for side in (peer, ours)
            ]
            theirs, own = in_turns(args.repeats, *write)
            kind = f"answer, greedy, {ANSWER} tokens" if peer.answers else f"caption, beam {BEAMS}, {CAPTION} tokens"
            target = 2.0 if peer.answers else TARGETS[precision][batch]
            row(f"{kind}, batch {batch}, {precision}", theirs, own, "ms", 1e3, f"{target:g} x", faster=True)


def memory(folder: str, args: argparse.Namespace) -> None:
    """Print the peak memory of a process that captions 8 images, a process per side."""
    peaks = {}
    for side in ("peer", *args.precisions):
        command = [sys.executable, __file__, "--child", side, folder, "--threads", str(args.threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[side] = json.loads(done.stdout.splitlines()[-1])
    for side in args.precisions:
        row(f"peak memory, 8 images, {side}", [peaks["peer"]], [peaks[side]], "MB", 1e-6, "0.5")


def peak(side: str, folder: str) -> int:
    """Return the peak bytes of this process while it captions, after loading (Linux)."""
    writer = Peer(folder) if side == "peer" else Ours(folder, side)  # type: ignore[arg-type]
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak: loading reads the weights twice on both sides
    writer.write(torch.randn(8, 3, SIDE, SIDE), torch.tensor([QUESTION]))
    return status("VmHWM")


def encoder(folder: str, args: argparse.Namespace) -> None:
    """Print the multiply-adds per second of the ViT as a share of those of one large product of its precision."""
    width, layers, patch = SIZES[args.size]
    tokens = (SIDE // patch) ** 2 + 1
    operations = layers * (12 * tokens * width**2 + 2 * tokens**2 * width) + tokens * width * 3 * patch**2
    side = 128 if args.size == "tiny" else 2048
    for precision in args.precisions:
        ours = Ours(folder, precision)
        pixels = torch.randn(1, 3, SIDE, SIDE)
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        square = torch.randn(side, side).to(dtype)
        encoding, product = in_turns(
            args.repeats,
            lambda ours=ours, pixels=pixels: ours.model.encode_image(pixels),  # type: ignore[misc]
            lambda square=square: square @ square,  # type: ignore[misc]
        )
        reached, limit = operations / statistics.median(encoding), side**3 / statistics.median(product)
        print(
            f"\nencoder, {precision}: {statistics.median(encoding) * 1e3:.0f} ms an image, {reached / 1e9:.0f} G "
            f"multiply-adds a second, {reached / limit:.0%} of a product of {side} x {side} ({limit / 1e9:.0f} G)"
        )


if __name__ == "__main__":
    main()
