"""A benchmark of trimmed vocabularies: size, time of the logits, and equal captions, as a Markdown table.

    python scripts/bench_trimming.py --text captions.txt ... --keep captions.txt [--layers 2]

The models are imported from Hugging Face's format with random weights: BLIP's decoder with a WordPiece vocabulary of
30,524 tokens, and ViT + GPT-2 with a byte-level BPE of 50,257. Real vocabularies cannot be downloaded here, so both
tokenizers are trained on ``--text``; words that it lacks are filled with tokens that no text uses. The words of
``--keep`` and of the greedy captions of half of the images stay. The captions of a random model are random words: of
the other half few need only these, and all that do must be equal, or the script fails.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captioner.checkpoint import Checkpoint, save
from captioner.checkpoint.hugging_face import convert
from captioner.compression import keep_tokens
from captioner.compression.corpus import read_captions
from captioner.config import GenerationConfig
from captioner.generation.search import search
from captioner.inference.prepared import prepare_model
from captioner.text.trimming import needed, trimmed, with_parts

HEADS = ("vocabulary", "tokens", "int8 file, MB", "logits fp32, ms", "logits int8, ms", "same captions")
SIDE, WIDTH, IMAGES = 64, 768, 32


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", nargs="+", required=True, help="texts that the tokenizers are trained on")
    parser.add_argument("--keep", nargs="+", required=True, help="captions whose words stay")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=3, help="tokens of a caption")
    parser.add_argument("--small", action="store_true", help="to test the script")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    lines, kept = read_captions(args.text), read_captions(args.keep)
    width, sizes = (24, (600, 700)) if args.small else (WIDTH, (30_524, 50_257))
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}")
    makers: dict[str, Callable[[str, list[str], int, int, int], None]] = {"WordPiece": make_blip, "BPE": make_gpt2}
    for (kind, make), size in zip(makers.items(), sizes, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            make(folder, lines, size, width, args.layers)
            compare(kind, convert(folder), kept, args.tokens)


def compare(kind: str, whole: Checkpoint, kept: list[str], tokens: int) -> None:
    """Print a row of the whole vocabulary and one of the trimmed one."""
    before = greedy(whole, tokens)
    seen = {token for ids in before[::2] for token in ids}
    keep = with_parts(whole.tokenizer, needed(whole.tokenizer, kept) | seen)
    small, places = keep_tokens(whole, keep), trimmed(whole.tokenizer, keep)[1]
    after = greedy(small, tokens)
    fair = [n for n, ids in enumerate(before) if set(ids) <= places.keys()]
    same = [n for n in fair if tuple(places[token] for token in before[n]) == after[n]]
    row(f"{kind}, whole", whole, "")
    row(f"{kind}, trimmed", small, f"{len(same)} of {len(fair)}")
    if same != fair:
        raise SystemExit("captions of kept words differ")


@torch.inference_mode()
def greedy(checkpoint: Checkpoint, tokens: int) -> list[tuple[int, ...]]:
    """Return the tokens of greedy captions of random images."""
    pixels = torch.randn(IMAGES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    config = GenerationConfig(beams=1, max_tokens=tokens)
    memory = checkpoint.model.remember(checkpoint.model.encode_image(pixels))
    found = search(checkpoint.model.decoder, memory, checkpoint.config.text, config)
    return [best[0].tokens for best in found]


def row(title: str, checkpoint: Checkpoint, same: str) -> None:
    """Print the size of a captioner in int8, and the time of the logits of a step of 5 beams."""
    with tempfile.TemporaryDirectory() as folder:
        size = (save(checkpoint, f"{folder}/small", dtype="int8") / "model.safetensors").stat().st_size
    states = torch.randn(5, 1, checkpoint.config.decoder.width)
    times = [
        best_time(prepare_model(checkpoint.model, precision).decoder.logits, states) for precision in ("fp32", "int8")
    ]
    cells = [
        title,
        f"{checkpoint.config.decoder.vocab_size:,}",
        f"{size / 1e6:.1f}",
        *(f"{t:.2f}" for t in times),
        same,
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


@torch.inference_mode()
def best_time(logits: Callable[[Tensor], Tensor], states: Tensor) -> float:
    """Return the shortest time of 50 calls, in milliseconds."""
    times = []
    for _ in range(50):
        began = time.perf_counter()
        logits(states)
        times.append(time.perf_counter() - began)
    return 1e3 * min(times)


def make_blip(folder: str, lines: list[str], size: int, width: int, layers: int) -> None:
    """Save a random BLIP in transformers' format, with a WordPiece vocabulary trained on ``lines``."""
    import transformers
    from tokenizers import BertWordPieceTokenizer

    tokenizer = BertWordPieceTokenizer(lowercase=True)
    tokenizer.train_from_iterator(lines, vocab_size=size - 130, min_frequency=1, show_progress=False)
    learnt = [word for word in tokenizer.get_vocab() if not word.startswith("[")]
    names = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    words = [names.get(n, f"[unused{n}]") for n in range(104)] + sorted(learnt)
    words += [f"[unused{n}]" for n in range(len(words), size - 2)]
    (Path(folder) / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    quiet(transformers)
    heads = max(1, width // 64)
    text = {"hidden_size": width, "num_attention_heads": heads, "num_hidden_layers": layers, "vocab_size": size}
    text |= {
        "intermediate_size": 4 * width,
        "bos_token_id": size - 2,
        "sep_token_id": 102,
        "encoder_hidden_size": width,
    }
    vision = {"hidden_size": width, "num_attention_heads": heads, "num_hidden_layers": 1, "image_size": SIDE}
    config = transformers.BlipConfig(text_config=text, vision_config={**vision, "intermediate_size": width})
    model = transformers.BlipForConditionalGeneration(config)
    for name, parameter in model.named_parameters():
        if "position_embedding" in name or "class_embedding" in name:  # zeros at first, and no photo unlike another
            torch.nn.init.normal_(parameter, std=0.02)
    model.save_pretrained(folder)
    transformers.BlipImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)


def make_gpt2(folder: str, lines: list[str], size: int, width: int, layers: int) -> None:
    """Save a random ViT + GPT-2 in transformers' format, with a byte-level BPE trained on ``lines``."""
    import transformers
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(lines, vocab_size=size - 1, min_frequency=1, show_progress=False)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    values = json.loads(tokenizer.to_str())
    vocab = values["model"]["vocab"]
    end = size - 1
    vocab |= {f"<unused {n}>": n for n in range(len(vocab), end)} | {"<|endoftext|>": end}
    for token in values["added_tokens"]:
        token["id"] = end
    (Path(folder) / "tokenizer.json").write_text(json.dumps(values), encoding="utf-8")
    quiet(transformers)
    heads = max(1, width // 64)
    vit: dict[str, Any] = {"hidden_size": width, "num_attention_heads": heads, "intermediate_size": width}
    vit |= {"num_hidden_layers": 1, "image_size": SIDE, "patch_size": 16}
    gpt2 = {"vocab_size": size, "n_embd": width, "n_layer": layers, "n_head": heads}
    gpt2 |= {"bos_token_id": end, "eos_token_id": end}
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.ViTConfig(**vit), transformers.GPT2Config(**gpt2)
    )
    model = transformers.VisionEncoderDecoderModel(config)
    model.generation_config.decoder_start_token_id = model.generation_config.pad_token_id = end
    model.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)


def quiet(transformers: Any) -> None:
    """Seed torch, and silence transformers."""
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


if __name__ == "__main__":
    main()
