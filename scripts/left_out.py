"""Captions of kinds that no captioned training photo shows, measured as in the held-out COCO studies.

    python scripts/left_out.py --shared ../shared --out runs/left_out [--start TEXT_MODEL] [--net 0.1 0.5]

Eight kinds that ImageNet knows are left out: every training photo whose captions or objects name one is removed, while
captions without images keep them (Hendricks et al. 2016, arXiv 1511.05284; their eight, with umbrella in place of
suitcase, which is no class of ImageNet). The captions of the removed photos train nothing: they are removed from the
text too. The rows of scripts/experiments/left_out.toml are trained on the rest. Then the dev sets and some of the
removed photos get captions, by plain search and with sure labels named (``name_sure_labels``).

The result is the F1 of mention of each kind over all these photos, the share of captions that name a left-out kind
without reason, and BLEU-4 and CIDEr-D. The targets are a mean F1 of at least 55, false mentions in at most 5 % of
captions, and on Flickr8k dev at most 0.3 BLEU-4 below the captioner without labels. Repeat the command to resume.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dev_scores import scores_on, table
from run_experiments import BEAMS, place_of, read, run
from train_default import ROOT

from captioner.checkpoint import load
from captioner.data.samples import Sample
from captioner.data.sources import load_split
from captioner.metrics.mentions import mentions_of_kind
from captioner.metrics.nouns import LabelFinder
from captioner.text import tidy

NAMES = {  # of each kind: in captions, and of COCO's objects and ImageNet's classes
    "bottle": ("bottle", "flask"),
    "bus": ("bus", "minibus", "trolleybus", "trolley bus"),
    "couch": ("couch", "sofa", "loveseat", "settee"),
    "microwave": ("microwave",),
    "pizza": ("pizza",),
    "racket": ("racket", "racquet"),
    "umbrella": ("umbrella", "parasol"),
    "zebra": ("zebra",),
}
FOLDERS = ("flickr8k", "coco", "written")
OUT = "left_out"  # the folder of the removed photos


@dataclass(frozen=True, kw_only=True)
class KindFinder:
    """A finder of the left-out kinds that a text names, by any of their names."""

    finder: LabelFinder
    kinds: tuple[int, ...]  # of each name

    @classmethod
    def of(cls) -> KindFinder:
        """Return the finder of ``NAMES``."""
        pairs = [(name, place) for place, names in enumerate(NAMES.values()) for name in names]
        return cls(finder=LabelFinder([name for name, _ in pairs]), kinds=tuple(place for _, place in pairs))

    def find(self, text: str) -> set[int]:
        """Return the places in ``NAMES`` of the kinds that ``text`` names."""
        return {self.kinds[number] for number in self.finder.find(text)}


def shows(row: dict[str, Any], finder: KindFinder) -> bool:
    """Return whether the captions, the objects or the class of a photo, a line of a data folder, name a kind."""
    return any(finder.find(text) for text in (*row["captions"], *row.get("objects", ()), row.get("label") or ""))


def divide(shared: Path, data: Path, *, photos: int) -> dict[str, int]:
    """Write the folders without the left-out kinds into ``data``, and a dev set of ``photos`` of each kind.

    Return the number of removed photos by folder. A photo of the dev set has a caption that names its kind.
    """
    finder = KindFinder.of()
    removed: dict[str, int] = {}
    by_kind: dict[int, list[str]] = {}
    lines: dict[str, dict[str, Any]] = {}
    captions: set[str] = set()
    for folder in FOLDERS:
        link(shared / folder / "images", data / folder / "images")
        link(shared / folder / "images", data / OUT / folder)
        rows = [json.loads(line) for line in (shared / folder / "train.jsonl").read_text(encoding="utf-8").splitlines()]
        kept = [row for row in rows if not shows(row, finder)]
        removed[folder] = len(rows) - len(kept)
        write(data / folder / "train.jsonl", kept)
        for row in (row for row in rows if shows(row, finder)):
            name = f"{folder}/{row['file_name'].removeprefix('images/')}"
            lines[name] = {"file_name": name, "captions": row["captions"]}
            captions.update(map(_tidied, row["captions"]))
            for kind in {kind for caption in row["captions"] for kind in finder.find(caption)}:
                by_kind.setdefault(kind, []).append(name)
    link(shared / "weights", data / "weights")
    (data / "text").mkdir(exist_ok=True)
    for path in sorted((shared / "text").glob("*.txt")):
        with path.open(encoding="utf-8") as text, (data / "text" / path.name).open("w", encoding="utf-8") as rest:
            rest.writelines(line for line in text if _tidied(line) not in captions)
    chosen = {name for names in by_kind.values() for name in sorted(names, key=_shuffled)[:photos]}
    write(data / OUT / "dev.jsonl", [lines[name] for name in sorted(chosen)])
    return removed


def _tidied(caption: str) -> str:
    return tidy(caption, lowercase=True)


def _shuffled(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def link(target: Path, place: Path) -> None:
    """Make ``place`` a symbolic link to the folder ``target``, if it is not there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not place.is_symlink():
        place.symlink_to(target.resolve(), target_is_directory=True)


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a file of one JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def mentions_in(captions: Sequence[str], samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the F1 and false mentions of each kind, and the share of captions with any false mention, in percent."""
    finder = KindFinder.of()
    named = [finder.find(caption) for caption in captions]
    true = [{kind for caption in sample.captions for kind in finder.find(caption)} for sample in samples]
    figures = {
        kind: mentions_of_kind(place, named, [place in shown for shown in true]) for place, kind in enumerate(NAMES)
    }
    false = sum(not own <= shown for own, shown in zip(named, true, strict=True))
    return {
        "f1": {kind: figure.f1 for kind, figure in figures.items()},
        "false_by_kind": {kind: figure.false for kind, figure in figures.items()},
        "false": 100 * false / len(samples),
    }


def judged(place: Path, sets: dict[str, list[Sample]], sure: float) -> dict[str, Any]:
    """Return the scores on every set and the mentions over all of them, with sure labels named from ``sure`` on."""
    checkpoint = load(place / "best")
    config = replace(checkpoint.generation, beams=BEAMS, length_penalty=1.0, name_sure_labels=sure)
    scores = {name: scores_on(checkpoint, samples, config) for name, samples in sets.items()}
    captions = [caption for score in scores.values() for caption in score["captions"]]
    return {**mentions_in(captions, [s for samples in sets.values() for s in samples]), "sets": scores}


def summary(results: dict[str, dict[str, Any]]) -> str:
    """Return the table of mentions, and one of each set."""
    lines = [
        f"| | mean F1 | {' | '.join(NAMES)} | false mentions, % | Flickr8k BLEU-4 minus the first |",
        "|---" * (len(NAMES) + 4) + "|",
    ]
    first = next(iter(results.values()))["sets"]["flickr8k"]["bleu4"]
    for name, found in results.items():
        cells = [f"{found['f1'][kind]:.1f}" for kind in NAMES]
        gap = found["sets"]["flickr8k"]["bleu4"] - first
        mean = statistics.fmean(found["f1"].values())
        lines.append(f"| {name} | {mean:.1f} | {' | '.join(cells)} | {found['false']:.1f} | {gap:+.2f} |")
    tables = [table(title, {name: r["sets"][title] for name, r in results.items()}) for title in (*FOLDERS, OUT)]
    return "\n\n".join(["\n".join(lines), *tables])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", type=Path, default=ROOT / "scripts" / "experiments" / "left_out.toml")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--out", type=Path, default=Path("runs/left_out"))
    parser.add_argument("--start", help="the directory of a captioner that learnt from text alone, to fine-tune")
    parser.add_argument("--net", type=float, nargs="*", default=[0.1, 0.5], help="thresholds of name_sure_labels")
    parser.add_argument("--photos", type=int, default=40, help="removed photos of each kind to caption")
    args = parser.parse_args()
    data = args.out / "data"
    removed = divide(args.shared, data, photos=args.photos)
    print(f"removed {', '.join(f'{count} photos of {folder}' for folder, count in removed.items())}", flush=True)
    sets = {folder: list(load_split(args.shared / folder, "dev")) for folder in FOLDERS}
    sets[OUT] = list(load_split(data / OUT, "dev"))
    results: dict[str, dict[str, Any]] = {}
    experiment = read(args.experiment)
    seed = experiment.seeds[0]
    for name, row in experiment.rows.items():
        place = place_of(name, seed, args.out)
        if not (place / "trained").exists():
            run(replace(row, start=args.start), seed, data, place, args.out / "features")
            (place / "trained").touch()
        labelled = load(place / "best").config.labels is not None
        for sure in (0.0, *(args.net if labelled else ())):
            result = place / f"net-{sure:g}.json"
            if not result.exists():
                result.write_text(json.dumps(judged(place, sets, sure)), encoding="utf-8")
            title = f"{name}, sure from {sure:g}" if sure else name
            results[title] = json.loads(result.read_text(encoding="utf-8"))
        print(f"\n{summary(results)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
