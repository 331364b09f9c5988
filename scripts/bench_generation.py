"""Captioning beside its peers on the same weights, as one Markdown table with machine and commit.

    python scripts/bench_generation.py [--rows decoding memory folder start] [--photos FOLDER]

Rows of ``decoding`` and ``memory`` are a ViT-S/16 + GPT-2-small with cross-attention in random weights (175M, 153M of
them the decoder's), made by transformers and imported here: both sides get the same pixels and write 20 tokens, and the
same ones in fp32, or the run fails. ``folder`` and ``start`` are the model that ships. The two sides of a row take
turns; a row shows the median of each side and the median of their ratios. docs/speed.md tells what was tried.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import Tensor

import captioner
from captioner.allocation import keep_freed_memory
from captioner.checkpoint import load
from captioner.config import GenerationConfig
from captioner.data.images import find_images
from captioner.data.loader import load_pixels
from captioner.generation.processors import minimum_length
from captioner.generation.rules import Rules
from captioner.generation.search import search
from captioner.layers.linears import PackedLinear
from captioner.models.captioner import Captioner
from captioner.models.precision import Precision, for_inference

ROOT = Path(__file__).resolve().parents[1]
TOKENS = 20
BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
GROUPS = ("decoding", "memory", "folder", "start")
HEADER = "| what | peer | captioner | captioner / peer | wanted |\n|---|---|---|---|---|"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=GROUPS, default=GROUPS, help="only these (default: all)")
    parser.add_argument("--photos", default=str(ROOT / "datasets" / "photos"), help="folder for the row of that name")
    parser.add_argument("--images", type=int, default=1000, help="photos of that row; fewer files are repeated")
    parser.add_argument("--best", choices=get_args(Precision), default="int8", help="the best precision")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="a tiny random model: tries the script, measures nothing")
    parser.add_argument("--child", nargs=2, metavar=("SIDE", "MODEL"), help=argparse.SUPPRESS)  # one side of ``memory``
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    if args.child:
        print(json.dumps(added_memory(*args.child)))
        return
    keep_freed_memory()  # as the command line does, for both sides; not where memory is what is measured
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout
    print(f"{processor()}, {args.threads} threads, torch {torch.__version__}, commit {commit.strip()}\n\n{HEADER}")
    with tempfile.TemporaryDirectory() as folder:
        if {"decoding", "memory"} & set(args.rows):
            make_model(folder, tiny=args.tiny)
        notes = []
        if "decoding" in args.rows:
            notes += decoding(folder, args)
        if "memory" in args.rows:
            memory(folder, args)
    if "folder" in args.rows:
        for precision in dict.fromkeys(("fp32", args.best)):
            whole_folder(cast(Precision, precision), args)
    if "start" in args.rows:
        start(args)
    print("\n" + "\n".join(notes))


def processor() -> str:
    """The name of the CPU, as exactly as the system tells it."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else platform.processor() or platform.machine()


def make_model(folder: str, *, tiny: bool) -> None:
    """A random ViT-S/16 + GPT-2-small with cross-attention (or a ``tiny`` one), as transformers saves it."""
    import transformers

    from captioner.text import train_tokenizer

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(0)
    vit = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
    gpt2 = {"bos_token_id": 50256, "eos_token_id": 50256}
    if tiny:
        vit = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 40, "num_hidden_layers": 2}
        gpt2 = {"vocab_size": 300, "n_embd": 24, "n_layer": 2, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0}
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.ViTConfig(**vit), transformers.GPT2Config(**gpt2)
    )
    model = transformers.VisionEncoderDecoderModel(config)
    model.generation_config.decoder_start_token_id = model.generation_config.pad_token_id = gpt2["eos_token_id"]
    model.save_pretrained(folder)
    transformers.ViTImageProcessor().save_pretrained(folder)
    words = train_tokenizer(["no caption is ever read"], 260, lowercase=False)
    (Path(folder) / "tokenizer.json").write_text(words.to_json(), encoding="utf-8")


class Peer:
    """transformers' ``generate``, as it comes."""

    def __init__(self, folder: str) -> None:
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.model = transformers.VisionEncoderDecoderModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def write(self, pixels: Tensor, beams: int) -> list[tuple[int, ...]]:
        """The captions of B images, each (3, 224, 224)."""
        found = self.model.generate(
            pixel_values=pixels, num_beams=beams, do_sample=False, min_new_tokens=TOKENS, max_new_tokens=TOKENS
        )
        return [tuple(row[1:].tolist()) for row in found]


class Ours:
    """The same model, imported and prepared in a precision."""

    def __init__(self, folder: str, precision: Precision) -> None:
        from captioner.hf_import import convert

        checkpoint = convert(folder)
        self.text = checkpoint.config.text
        self.model = for_inference(checkpoint.model, precision)
        self.rules = Rules(processors=(minimum_length(TOKENS + 1, self.text.eos_id),))

    @torch.inference_mode()
    def write(self, pixels: Tensor, beams: int) -> list[tuple[int, ...]]:
        """The captions of B images, each (3, 224, 224)."""
        config = GenerationConfig(beams=beams, max_tokens=TOKENS, length_penalty=1.0)
        memory = self.model.remember(self.model.encode_image(pixels))
        found = search(self.model.decoder, memory, self.text, config, rules=self.rules)
        return [of_image[0].tokens for of_image in found]


def decoding(folder: str, args: argparse.Namespace) -> list[str]:
    """Print the rows of ``generate`` against ours; how far these are from reading each weight once per token."""
    peer = Peer(folder)
    notes: list[str] = []
    settings: dict[Precision, list[tuple[int, int, float]]] = {"fp32": [(1, 1, 1.8), (5, 1, 4.0), (5, 8, 2.5)]}
    settings.setdefault(args.best, []).extend([(5, 1, 9.0), (5, 8, 6.0)])
    # All of them first: weights that lie where those of another model were let go are on smaller pages, and slower.
    models = {precision: Ours(folder, precision) for precision in settings}
    for precision, rows in settings.items():
        notes += [against(peer, models[precision], beams, batch, wanted, args.repeats) for beams, batch, wanted in rows]
    return notes


def against(peer: Peer, ours: Ours, beams: int, batch: int, wanted: float, repeats: int) -> str:
    """Print one row; how far it is from the limit."""
    pixels = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    precision = ours.model.precision
    if precision == "fp32" and peer.write(pixels, beams) != ours.write(pixels, beams):
        raise SystemExit(f"the tokens of beam {beams}, batch {batch} differ in fp32")
    theirs, own, encoding = in_turns(
        repeats,
        lambda: peer.write(pixels, beams),
        lambda: ours.write(pixels, beams),
        lambda: ours.model.remember(ours.model.encode_image(pixels)),
    )
    what = f"{'greedy' if beams == 1 else f'beam {beams}'}, batch {batch}, {precision}"
    row(f"{what} against `generate` in fp32", theirs, own, "ms", 1e3, f"{wanted:g} x the speed", faster=True)
    step = (statistics.median(own) - statistics.median(encoding)) / TOKENS
    weights = weights_per_step(ours.model)
    limit = weights / bandwidth(weights)
    fastest = statistics.median(theirs) / (TOKENS * limit + statistics.median(encoding))
    return (
        f"- {what}: a step takes {step * 1e3:.1f} ms, and reading its {weights / 1e6:.0f} MB of weights once "
        f"{limit * 1e3:.1f} ms at the {weights / limit / 1e9:.0f} GB/s measured: {limit / step:.0%} of the limit; "
        f"at the limit it would have {fastest:.1f} x the speed of the peer"
    )


def weights_per_step(model: Captioner) -> int:
    """The bytes that every decoding step reads: all of the decoder's products but those of the image's memory."""
    return sum(
        layer.in_features * layer.out_features * BYTES[layer.precision]
        for name, layer in model.decoder.named_modules()
        if isinstance(layer, PackedLinear) and not name.startswith("draft.") and not name.endswith("cross_attn.kv_proj")
    )


def bandwidth(size: int) -> float:
    """Bytes per second at which this many bytes are read, in a row and more than once."""
    values = torch.ones(size // 4)
    times = in_turns(9, values.sum)[0]
    return size / statistics.median(times)


def in_turns(repeats: int, *sides: Callable[[], object]) -> list[list[float]]:
    """Seconds of each side in each of the rounds, one after the other, after one round to warm up."""
    times: list[list[float]] = [[] for _ in sides]
    for turn in range(repeats + 1):
        for side, found in zip(sides, times, strict=True):
            began = time.perf_counter()
            with torch.inference_mode():
                side()
            if turn:
                found.append(time.perf_counter() - began)
    return times


def row(
    what: str, peer: list[float], own: list[float], unit: str, scale: float, wanted: str, *, faster: bool = False
) -> None:
    """One line of the table: medians of both sides, and of their ratios."""
    ratio = statistics.median((a / b if faster else b / a) for a, b in zip(peer, own, strict=True))
    digits = {"images/s": 1, "s": 2}.get(unit, 0)
    shown = [f"{statistics.median(values) * scale:.{digits}f}" for values in (peer, own)]
    print(f"| {what} | {shown[0]} {unit} | {shown[1]} {unit} | {ratio:.2f} | {wanted} |", flush=True)


def memory(folder: str, args: argparse.Namespace) -> None:
    """Print what beam 5 of 32 images takes at its peak: the whole process, and what that is above the loaded model."""
    found = {}
    for side in ("peer", "fp32", args.best):
        done = subprocess.run(
            [sys.executable, __file__, "--child", side, folder, "--threads", str(args.threads)],
            capture_output=True,
            text=True,
            check=True,
        )
        found[side] = json.loads(done.stdout.splitlines()[-1])
    for side in dict.fromkeys(("fp32", args.best)):
        for name, what in (("peak", "peak memory"), ("added", "of it above the loaded model")):
            row(f"{what}, beam 5, batch 32, {side}", [found["peer"][name]], [found[side][name]], "MB", 1e-6, "0.50")


def added_memory(side: str, folder: str) -> dict[str, int]:
    """Bytes of this process at its peak during a search, and how much that is more than before it (Linux)."""
    writer = Peer(folder) if side == "peer" else Ours(folder, cast(Precision, side))
    pixels = torch.randn(32, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    writer.write(pixels[:1, ...], 1)  # what is made once
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = status("VmRSS")
    writer.write(pixels, 5)
    return {"peak": status("VmHWM"), "added": status("VmHWM") - before}


def status(name: str) -> int:
    """A line of the kernel's account of this process, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024


def whole_folder(precision: Precision, args: argparse.Namespace) -> None:
    """Print photos per second from files to captions against the encoder alone on tensors that are ready: as the
    pipeline lays it out for speed, and as timm makes it."""
    pipe = captioner.load(precision=precision)
    timms = load(None).model.vision.backbone.to(memory_format=torch.contiguous_format).eval()
    paths = [path for path in find_images([args.photos]) if isinstance(path, Path)]
    paths = list(itertools.islice(itertools.cycle(paths), args.images))
    rounds = max(1, min(args.repeats, args.images // 100))
    size = min(32, args.images // rounds)  # the command line's own
    pixels: Any = list(load_pixels(paths[: 4 * size], pipe.checkpoint.config.preprocess))
    batches = torch.stack(pixels).split(size)
    parts = [paths[i::rounds] for i in range(rounds)]
    left = iter([parts[0], *parts])

    def encode(by: Callable[[Tensor], object]) -> None:
        for batch in itertools.islice(itertools.cycle(batches), len(parts[0]) // size):
            by(batch)

    def caption() -> None:
        for _ in pipe.stream(next(left), beams=1, batch_size=size):
            pass

    encoder, timms_encoder, ours = in_turns(
        rounds, partial(encode, pipe.checkpoint.model.encode_image), partial(encode, timms.forward_features), caption
    )
    encoded = len(parts[0]) // size * size
    own = [len(part) / seconds for part, seconds in zip(parts, ours, strict=True)]
    for peer, what in ((encoder, "its bare encoder"), (timms_encoder, "its encoder as timm makes it")):
        what = f"folder of {args.images:,} photos, greedy, shipped model, {precision}, against {what}"
        row(what, [encoded / seconds for seconds in peer], own, "images/s", 1, "0.85")


def start(args: argparse.Namespace) -> None:
    """Print the wall time of one photo by the command line against the import of torch and timm."""
    photo = next(path for path in find_images([args.photos]) if isinstance(path, Path))
    commands = [["-c", "import torch, timm"], ["-m", "captioner", os.fspath(photo)]]
    peer, own = in_turns(
        args.repeats,
        *(
            lambda c=command: subprocess.run([sys.executable, *c], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            for command in commands
        ),
    )
    row("cold start: one photo, command line, against `import torch, timm`", peer, own, "s", 1, "1.50 or less")


if __name__ == "__main__":
    main()
