"""A benchmark of captioning against transformers on the same weights, as a Markdown table with machine and commit.

    python scripts/bench_generation.py [--rows decoding memory folder start] [--photos FOLDER]

``decoding`` and ``memory`` use a ViT-S/16 + GPT-2-small with cross-attention and random weights (175M parameters, 153M
of them in the decoder), made by transformers and imported here. Both sides get the same pixels and write 20 tokens; in
fp32 the run fails unless the tokens are equal. ``folder`` and ``start`` use the shipped model. The two sides of a row
alternate; a row shows the median of each side and the median of their ratios. See docs/speed.md for the results.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
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
from captioner.checkpoint import load
from captioner.config import GenerationConfig
from captioner.data.images import find_images
from captioner.data.loader import load_pixels
from captioner.doctor.machine import cpu_name
from captioner.generation.processors import minimum_length
from captioner.generation.rules import Rules
from captioner.generation.search import search
from captioner.inference import Precision
from captioner.inference.linears import PackedLinear
from captioner.inference.prepared import prepare_model
from captioner.models.encoder_decoder import EncoderDecoder
from captioner.system.allocation import keep_freed_memory

ROOT = Path(__file__).resolve().parents[1]
TOKENS = 20
BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
GROUPS = ("decoding", "memory", "folder", "start")
HEADER = "| benchmark | peer | captioner | captioner / peer | target |\n|---|---|---|---|---|"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=GROUPS, default=GROUPS, help="groups of rows (default: all)")
    parser.add_argument(
        "--photos", default=str(ROOT / "datasets" / "photos"), help="photos of the rows folder and start"
    )
    parser.add_argument("--images", type=int, default=1000, help="photos of the rows folder; files are repeated")
    parser.add_argument("--best", choices=get_args(Precision), default="int8", help="fastest precision to compare")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="use a tiny random model, to test the script")
    parser.add_argument("--child", nargs=2, metavar=("SIDE", "MODEL"), help=argparse.SUPPRESS)  # one side of ``memory``
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    if args.child:
        print(json.dumps(added_memory(*args.child)))
        return
    keep_freed_memory()  # like the command line, for both sides; not when memory is measured
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout
    machine = f"{cpu_name()} ({os.cpu_count()} cores), {args.threads} threads"
    print(f"{machine}, torch {torch.__version__}, commit {commit.strip()}\n\n{HEADER}")
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


def make_model(folder: str, *, tiny: bool) -> None:
    """Save a random ViT-S/16 + GPT-2-small with cross-attention (or a ``tiny`` one) in transformers' format."""
    import transformers
    from tokenizers import Tokenizer, models

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
    words = {f"w{n}": n for n in range(config.decoder.vocab_size)}  # no caption is ever read
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    (Path(folder) / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")


class Peer:
    """The ``generate`` method of transformers with its defaults."""

    def __init__(self, folder: str) -> None:
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.model = transformers.VisionEncoderDecoderModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def write(self, pixels: Tensor, beams: int) -> list[tuple[int, ...]]:
        """Return the captions of B images, each (3, 224, 224)."""
        tokens = self.model.generate(
            pixel_values=pixels, num_beams=beams, do_sample=False, min_new_tokens=TOKENS, max_new_tokens=TOKENS
        )
        return [tuple(row[1:].tolist()) for row in tokens]


class Ours:
    """The same model, imported and prepared in a precision."""

    def __init__(self, folder: str, precision: Precision) -> None:
        from captioner.checkpoint.hugging_face import convert

        checkpoint = convert(folder)
        self.text, self.model = checkpoint.config.text, prepare_model(checkpoint.model, precision, keep=False)
        self.rules = Rules(processors=(minimum_length(TOKENS + 1, self.text.eos_id),))

    @torch.inference_mode()
    def write(self, pixels: Tensor, beams: int) -> list[tuple[int, ...]]:
        """Return the captions of B images, each (3, 224, 224)."""
        config = GenerationConfig(beams=beams, max_tokens=TOKENS, length_penalty=1.0)
        memory = self.model.remember(self.model.encode_image(pixels))
        hypotheses = search(self.model.decoder, memory, self.text, config, rules=self.rules)
        return [group[0].tokens for group in hypotheses]


def decoding(folder: str, args: argparse.Namespace) -> list[str]:
    """Print the rows of decoding; return notes that compare them with reading each weight once per token."""
    peer = Peer(folder)
    notes: list[str] = []
    settings: dict[Precision, list[tuple[int, int, float]]] = {"fp32": [(1, 1, 1.8), (5, 1, 4.0), (5, 8, 2.5)]}
    settings.setdefault(args.best, []).extend([(5, 1, 9.0), (5, 8, 6.0)])
    # Load all models first: weights in memory that another model has freed are on smaller pages, and slower.
    models = {precision: Ours(folder, precision) for precision in settings}
    for precision, rows in settings.items():
        notes += [against(peer, models[precision], beams, batch, target, args.repeats) for beams, batch, target in rows]
    return notes


def against(peer: Peer, ours: Ours, beams: int, batch: int, target: float, repeats: int) -> str:
    """Print one row; return its distance from the limit."""
    pixels = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    precision = ours.model.precision
    if precision == "fp32" and peer.write(pixels, beams) != ours.write(pixels, beams):
        raise SystemExit(f"the tokens of beam {beams}, batch {batch} differ in fp32")
    peer_times, own, encoding = in_turns(
        repeats,
        lambda: peer.write(pixels, beams),
        lambda: ours.write(pixels, beams),
        lambda: ours.model.remember(ours.model.encode_image(pixels)),
    )
    name = f"{'greedy' if beams == 1 else f'beam {beams}'}, batch {batch}, {precision}"
    row(f"{name} against `generate` in fp32", peer_times, own, "ms", 1e3, f"{target:g} x the speed", faster=True)
    step = (statistics.median(own) - statistics.median(encoding)) / TOKENS
    weights = weights_per_step(ours.model)
    limit = weights / bandwidth(weights)
    fastest = statistics.median(peer_times) / (TOKENS * limit + statistics.median(encoding))
    return (
        f"- {name}: a step takes {step * 1e3:.1f} ms; reading its {weights / 1e6:.0f} MB of weights once takes "
        f"{limit * 1e3:.1f} ms at the measured {weights / limit / 1e9:.0f} GB/s: {limit / step:.0%} of the limit; "
        f"at the limit it would have {fastest:.1f} x the speed of the peer"
    )


def weights_per_step(model: EncoderDecoder) -> int:
    """Return the bytes that every decoding step reads: the decoder's weights without the image's keys and values."""
    return sum(
        layer.in_features * layer.out_features * BYTES[layer.precision]
        for name, layer in model.decoder.named_modules()
        if isinstance(layer, PackedLinear) and not name.startswith("draft.") and not name.endswith("cross_attn.kv_proj")
    )


def bandwidth(size: int) -> float:
    """Return the bytes per second of repeated sequential reads of this many bytes."""
    values = torch.ones(size // 4)
    times = in_turns(9, values.sum)[0]
    return size / statistics.median(times)


def in_turns(repeats: int, *sides: Callable[[], object]) -> list[list[float]]:
    """Return the seconds of each side in alternating rounds, after one warm-up round."""
    times: list[list[float]] = [[] for _ in sides]
    for turn in range(repeats + 1):
        for side, seconds in zip(sides, times, strict=True):
            began = time.perf_counter()
            with torch.inference_mode():
                side()
            if turn:
                seconds.append(time.perf_counter() - began)
    return times


def row(
    name: str, peer: list[float], own: list[float], unit: str, scale: float, target: str, *, faster: bool = False
) -> None:
    """Print one line of the table: medians of both sides, and of their ratios."""
    ratio = statistics.median((a / b if faster else b / a) for a, b in zip(peer, own, strict=True))
    digits = {"images/s": 1, "s": 2}.get(unit, 0)
    shown = [f"{statistics.median(values) * scale:.{digits}f}" for values in (peer, own)]
    print(f"| {name} | {shown[0]} {unit} | {shown[1]} {unit} | {ratio:.2f} | {target} |", flush=True)


def memory(folder: str, args: argparse.Namespace) -> None:
    """Print the peak memory of beam 5 on 32 images, of the whole process and above the loaded model."""
    bytes_of = {}
    for side in ("peer", "fp32", args.best):
        done = subprocess.run(
            [sys.executable, __file__, "--child", side, folder, "--threads", str(args.threads)],
            capture_output=True,
            text=True,
            check=True,
        )
        bytes_of[side] = json.loads(done.stdout.splitlines()[-1])
    for side in dict.fromkeys(("fp32", args.best)):
        for name, title in (("peak", "peak memory"), ("added", "peak memory above the loaded model")):
            peer, own = [bytes_of["peer"][name]], [bytes_of[side][name]]
            row(f"{title}, beam 5, batch 32, {side}", peer, own, "MB", 1e-6, "0.50")


def added_memory(side: str, folder: str) -> dict[str, int]:
    """Return the peak bytes of this process during a search, and their increase over the bytes before (Linux)."""
    writer = Peer(folder) if side == "peer" else Ours(folder, cast(Precision, side))
    pixels = torch.randn(32, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    writer.write(pixels[:1, ...], 1)  # one-time allocations
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = status("VmRSS")
    writer.write(pixels, 5)
    return {"peak": status("VmHWM"), "added": status("VmHWM") - before}


def status(name: str) -> int:
    """Return a value of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024


def whole_folder(precision: Precision, args: argparse.Namespace) -> None:
    """Print photos per second from files to captions against the bare encoder on preprocessed tensors.

    The encoder is measured in the pipeline's fast memory layout, and in timm's.
    """
    pipe = captioner.load(precision=precision)
    timm_model = load(None).model.vision.backbone.to(memory_format=torch.contiguous_format).eval()
    paths = [path for path in find_images([args.photos]) if isinstance(path, Path)]
    paths = list(itertools.islice(itertools.cycle(paths), args.images))
    rounds = max(1, min(args.repeats, args.images // 100))
    size = min(32, args.images // rounds)  # the command line's default is 32
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

    encoder, timm_encoder, captioning = in_turns(
        rounds,
        partial(encode, pipe.checkpoint.model.encode_image),
        partial(encode, timm_model.forward_features),
        caption,
    )
    encoded = len(parts[0]) // size * size
    own = [len(part) / seconds for part, seconds in zip(parts, captioning, strict=True)]
    for peer, title in ((encoder, "its bare encoder"), (timm_encoder, "its encoder in timm's layout")):
        title = f"folder of {args.images:,} photos, greedy, shipped model, {precision}, against {title}"
        row(title, [encoded / seconds for seconds in peer], own, "images/s", 1, "0.85")


def start(args: argparse.Namespace) -> None:
    """Print the wall time of one photo on the command line against the import of torch and timm."""
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
