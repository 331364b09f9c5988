"""Train the shipped model, choose averages and decoding on held-out images, and save it in captioner/weights/default.

    python scripts/train_default.py --shared ../shared --out runs/everyday [--resume] [--only-ship]

``--shared`` holds flickr8k/, coco/, written/, chinese/, text/ and weights/. Repeat the command with --resume to resume
an interrupted run. Dev images are used only for the card's figures on the stability of the finished model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from operator import itemgetter
from pathlib import Path

from captioner.checkpoint import Checkpoint, average, load, save
from captioner.checkpoint.card import write_card
from captioner.checkpoint.files import SHIPPED
from captioner.cli import main as captioner
from captioner.config import Calibration, GenerationConfig, WordRules, with_options
from captioner.data.samples import Sample
from captioner.data.sources import load_split
from captioner.evaluation.evaluate import Evaluation, evaluate
from captioner.evaluation.probe import markdown, probe
from captioner.metrics.calibration import fit_calibration
from captioner.training.classifier import add_classifier
from captioner.training.recipe import load_recipe
from captioner.training.run import train
from captioner.training.setup import read_data

ROOT = Path(__file__).resolve().parents[1]
HELD_OUT = ROOT / "datasets" / "everyday" / "held_out.txt"
PHOTOS = ("flickr8k", "coco", "written")
PENALTIES = (0.5, 0.7, 0.8, 0.9, 1.0)
LABEL_WEIGHTS = (0.0, 0.1, 0.2, 0.3)  # of the labels' log-odds in the search
SURE = (0.0, 0.3, 0.4, 0.5)  # probabilities from which on captions name a label; 0 for none
SHARES = (0.0, 0.3, 0.4, 0.5, 1.0)  # of the first of two captioners in their average
CONTINUATIONS: dict[str, tuple[str, tuple[str, ...], str]] = {  # recipe, settings, start
    "first": ("everyday_reward", (), "labels"),
    "more": ("everyday_more", (), "labels"),
    "second": ("everyday_reward", ("seed=5", "stages.0.epochs=9"), "more"),
    "third": ("everyday_reward", ("seed=6", "stages.0.epochs=9", "stages.0.options.bleu=2.0"), "mean"),
    "tokens": ("everyday_labels", (), "rewarded"),
}
AVERAGES = {"mean": ("first", "second"), "rewarded": ("mean", "third")}
CARD_NOTES = """\
## What it knows

Trained on 14,718 photos, all at 224 or 256 pixels: 5,591 of Flickr8k (people and dogs, mostly outdoors; captions by
people), 2,130 of COCO and Flickr30k (captions by people), and 6,997 whose captions a vision-language model wrote for
this project under a written guide (4,374 of COCO, 970 of ImageNet, 1,653 album photos of landscapes, buildings, food,
animals, shops, portraits). A sample of 48 of these was checked by eye, the rest was not reviewed. The Chinese captions
are machine translations of English ones. The captions of Flickr30k and COCO served as text without images. 800 photos
of the training splits were held out to choose its settings.

Its labels are 687 everyday nouns. Label and caption are guesses: they name gender, age and things that are not there.

The backbone started from ImageNet weights (EfficientNet-Lite3). The weights have a licence of their own, apart from the
code's: see `captioner/weights/LICENSE.md`.
"""

STABILITY = """\
## Stability of its captions, and assumptions about people

On Flickr8k dev (`captioner evaluate --data DATA --probe`). Intervals are 95 % over photos; confidence is the
mean probability that the model gave to such words.

"""


def scored(
    checkpoint: Checkpoint, held_out: Sequence[Sample], config: GenerationConfig, title: str
) -> tuple[float, Evaluation]:
    """Return CIDEr-D + 2 x BLEU-4 on held-out photos, and the evaluation; print both scores after ``title``."""
    evaluation = evaluate(checkpoint, held_out, config, batch_size=32)
    bleu4, cider = evaluation.model.bleu.bleu4, evaluation.model.cider_d
    print(f"{title}: BLEU-4 {bleu4:.2f}, CIDEr-D {cider:.2f}", flush=True)
    return cider + 2 * bleu4, evaluation


def choose_generation(
    checkpoint: Checkpoint, held_out: Sequence[Sample], *, beams: Sequence[int], penalties: Sequence[float]
) -> GenerationConfig:
    """Return beams, length penalty and ban of repeated n-grams with the best CIDEr-D + 2 x BLEU-4 on held-out photos.

    The words of these captions calibrate the confidence.
    """
    plain = replace(checkpoint.generation, calibration=Calibration())

    def attempt(config: GenerationConfig) -> tuple[float, GenerationConfig]:
        title = f"beams {config.beams}, length penalty {config.length_penalty}, no repeated n-gram of "
        value, evaluation = scored(checkpoint, held_out, config, f"{title}{config.rules.no_repeat_ngram}")
        assert evaluation.of_model is not None
        calibration = fit_calibration(*zip(*evaluation.of_model.word_chances, strict=True))
        return value, replace(config, calibration=calibration)

    def best(tried: Sequence[tuple[float, GenerationConfig]]) -> GenerationConfig:
        return max(tried, key=lambda pair: pair[0])[1]

    tried = [
        attempt(replace(plain, beams=width, length_penalty=penalty)) for width, penalty in product(beams, penalties)
    ]
    searched = replace(best(tried), calibration=Calibration())
    bans = [attempt(replace(searched, rules=replace(searched.rules, no_repeat_ngram=length))) for length in (2, 3)]
    return best([*tried, *bans])


def choose_labels(checkpoint: Checkpoint, held_out: Sequence[Sample]) -> GenerationConfig:
    """Return the captioner's generation config with the best ``label_weight`` and ``name_sure_labels``.

    The weight is chosen first, both on held-out photos.
    """
    chosen = checkpoint.generation
    for option, values in (("label_weight", LABEL_WEIGHTS), ("name_sure_labels", SURE)):
        tried = [with_options(chosen, {option: value}) for value in values]
        titles = [f"{option} {value}" for value in values]
        scores = [scored(checkpoint, held_out, *pair)[0] for pair in zip(tried, titles, strict=True)]
        chosen = max(zip(scores, tried, strict=True), key=itemgetter(0))[1]
    return chosen


def choose_average(captioners: Sequence[Checkpoint], held_out: Sequence[Sample]) -> Checkpoint:
    """Return the average of two captioners with the best CIDEr-D + 2 x BLEU-4 on held-out photos."""
    found: list[tuple[float, Checkpoint]] = []
    for share in SHARES:
        mean = average(captioners, [share, 1 - share])
        decoding = replace(mean.generation, beams=5, length_penalty=0.8, rules=WordRules(no_repeat_ngram=2))
        found.append((scored(mean, held_out, decoding, f"share {share} of the first")[0], mean))
    return max(found, key=itemgetter(0))[1]


def start_of(name: str, out: Path, held_out: Sequence[Sample]) -> Checkpoint:
    """Return the captioner of a run, or an average, which is chosen and saved the first time."""
    if name in AVERAGES and not (out / name).exists():
        mean = choose_average([start_of(one, out, held_out) for one in AVERAGES[name]], held_out)
        save(mean, out / name)
    return load(out / name)


def share_features(place: Path, features: Path) -> None:
    """Make the run in ``place`` cache its features in the folder ``features``; file names contain a fingerprint."""
    features.mkdir(parents=True, exist_ok=True)
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "features").is_symlink():
        (place / "features").symlink_to(features.resolve(), target_is_directory=True)


def train_all(shared: Path, out: Path, *, resume: bool) -> int:
    """Train the captioner from text to labels, and each of ``CONTINUATIONS`` from its start; return an exit code."""
    data = [str(shared / name) for name in (*PHOTOS, "chinese")]
    text = [str(shared / "text" / f"{name}_captions.txt") for name in ("flickr30k", "coco")]
    weights = shared / "weights" / "tf_efficientnet_lite3.safetensors"
    command = ["train", "--recipe", "everyday", "--data", *data, "--text", *text, "--out", str(out / "labels")]
    command += ["--outside"]  # the Chinese captions are in another folder than their photos
    command += ["--held-out", str(HELD_OUT), "--set", f"vision_weights={weights}"]
    command += ["--set", f"stages.1.options.classifier={weights}"]
    if code := captioner(command + ["--resume"] * resume):
        return code
    loaded = read_data(data, held_out=str(HELD_OUT), outside=True, validation_images=800, report=print)
    for name, (recipe, settings, start) in CONTINUATIONS.items():
        begun = start_of(start, out, loaded.validation)
        if name == "tokens":
            settings = (*settings, f"stages.0.options.teacher={out}/rewarded")
            add_classifier(begun.model, weights, loaded.train)
        place = out / name
        share_features(place, out / "labels" / "features")  # all runs have the same frozen lower half
        again = resume and (place / "state.pt").exists()
        train(load_recipe(recipe, settings), loaded, place, start=begun, resume=again, report=print)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--out", type=Path, default=Path("runs/everyday"))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--only-ship", action="store_true", help="skip the training: the runs in --out are finished")
    args = parser.parse_args()
    if not args.only_ship and (code := train_all(args.shared, args.out, resume=args.resume)):
        return code
    photos = [str(args.shared / name) for name in PHOTOS]
    held_out = read_data(photos, held_out=str(HELD_OUT), validation_images=800, report=print).validation
    checkpoint = start_of("tokens", args.out, held_out)
    checkpoint.generation = choose_generation(checkpoint, held_out, beams=(3, 5), penalties=PENALTIES)
    checkpoint.generation = choose_labels(checkpoint, held_out)
    scores = evaluate(checkpoint, held_out, checkpoint.generation, batch_size=32).model
    held_out_scores = {"cider_d": scores.cider_d, "bleu4": scores.bleu.bleu4}
    checkpoint.training = {**checkpoint.training, "held_out": held_out_scores}
    steadiness = markdown(probe(checkpoint, load_split(args.shared / "flickr8k", "dev")))
    parts = [write_card(checkpoint.config, checkpoint.training), CARD_NOTES, STABILITY + steadiness]
    checkpoint.card = "\n".join(parts) + "\n"
    print(save(checkpoint, SHIPPED, dtype="fp16"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
