"""Run the rows of an experiment with every seed, and print its table.

    python scripts/run_experiments.py scripts/experiments/attention.toml --shared ../shared --out runs/attention

An experiment is a TOML file: a recipe, seeds, settings of all rows, and rows. A row is a list of settings, or a table
with the fields of ``Row``. Each run is a ``captioner train``, or a ``finetune`` of another row's result, with those of
the held-out photos in datasets/everyday that are in its data; the script then evaluates its best weights on the dev
sets of the experiment (``dev``, by default Flickr8k) with 5 beams. Results are stored in --out: repeat the command to
resume, or add --table to print the existing ones. Choose by the held-out column, between rows with the same data; dev
is only for reporting. A second table shows the differences from the first row on the first dev set; with several dev
sets, each has a table with intervals, floor, control and people.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dev_scores
import torch
from dev_scores import scores_of, scores_on
from train_default import HELD_OUT, ROOT, choose_generation, share_features

from captioner.checkpoint import load
from captioner.cli import main as captioner
from captioner.data.samples import Sample
from captioner.data.sources import load_split
from captioner.data.splits import hold_out_named
from captioner.evaluation.evaluate import evaluate
from captioner.evaluation.judge import Judge
from captioner.metrics.bootstrap import paired_differences
from captioner.metrics.statistic import Statistic, averaged
from captioner.models.decoder import Decoder
from captioner.training.recipe import Recipe, load_recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BEAMS = 5


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    recipe: str  # a file beside the experiment, or a recipe's name
    settings: Sequence[str] = ()
    after: str | None = None  # the row whose best weights to fine-tune; None for random weights
    start: str | None = None  # the directory of a captioner to fine-tune
    data: Sequence[str] = ("flickr8k",)  # folders in --shared
    text: Sequence[str] = ()  # folders in --shared
    outside: bool = False  # the data may name images outside its folders

    @property
    def trains(self) -> Recipe:
        """The recipe with the row's settings."""
        return load_recipe(self.recipe, self.settings)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The content of an experiment's file."""

    rows: dict[str, Row]  # by name
    seeds: list[int]
    penalties: list[float]  # length penalties to choose from on held-out photos
    dev: list[str]  # folders in --shared; the first one's scores are in the main table


def read(path: Path) -> Experiment:
    """Return the experiment in a TOML file."""
    experiment = tomllib.loads(path.read_text(encoding="utf-8"))
    common = experiment.get("settings", ())
    rows = {}
    for name, value in experiment["rows"].items():
        table = value if isinstance(value, dict) else {"settings": value}
        row = Row(**{"recipe": experiment["recipe"], **table, "settings": [*common, *table.get("settings", ())]})
        beside = path.parent / row.recipe
        rows[name] = replace(row, recipe=str(beside)) if beside.is_file() else row
        if row.after is not None and row.after not in rows:
            raise SystemExit(f"{path}: row {name} has after = {row.after!r}, which is not a row above it; correct it")
    if experiment.get("equal_parameters"):
        rows = with_equal_parameters(rows)
    return Experiment(
        rows=rows,
        seeds=experiment["seeds"],
        penalties=experiment.get("length_penalties", [1.0]),
        dev=experiment.get("dev", ["flickr8k"]),
    )


def parameters(recipe: Recipe) -> int:
    """Return the number of the decoder's parameters, on the meta device."""
    with torch.device("meta"):
        decoder = Decoder(recipe.decoder_config(recipe.tokenizer.vocab_size))
    return sum(p.numel() for p in decoder.parameters())


def with_equal_parameters(rows: dict[str, Row]) -> dict[str, Row]:
    """Return the rows, each with the feed-forward width that matches the parameters of the largest row."""
    goal = max(parameters(row.trains) for row in rows.values())
    fitted = {}
    for name, row in rows.items():
        recipe = row.trains
        width = 4 * int(recipe.decoder["width"])
        narrow, wider = (parameters(_with_mlp(recipe, mlp)) for mlp in (width, width + 1))
        mlp = width + round((goal - narrow) / (wider - narrow))  # parameters are linear in it
        if abs(parameters(_with_mlp(recipe, mlp)) - goal) > 0.001 * goal:
            raise SystemExit(f"no feed-forward width of {name} comes within 0.1 % of {goal} parameters")
        fitted[name] = replace(row, settings=[*row.settings, f"decoder.mlp_width={mlp}"])
    return fitted


def _with_mlp(recipe: Recipe, mlp: int) -> Recipe:
    return replace(recipe, decoder={**recipe.decoder, "mlp_width": mlp})


def place_of(name: str, seed: int, out: Path) -> Path:
    """Return the directory of the run of a row and seed."""
    return out / f"{name.replace(' ', '-').replace(',', '')}-{seed}"


def photos_of(row: Row, shared: Path) -> list[Sample]:
    """Return the photos in the training splits of the row's folders, held-out ones included."""
    return [sample for name in row.data for sample in load_split(shared / name, "train", outside=row.outside)]


def held_out_in(row: Row, shared: Path) -> list[str]:
    """Return the names in ``HELD_OUT`` of photos that are in the training split of one of the row's folders."""
    known = {sample.name for sample in photos_of(row, shared)}
    return [name for name in HELD_OUT.read_text(encoding="utf-8").split("\n") if name in known]


def run(row: Row, seed: int, shared: Path, place: Path, features: Path) -> None:
    """Train or resume the run of one row and seed in ``place``."""
    share_features(place, features)
    command = ["train"]
    if row.after is not None:
        command = ["finetune", "--model", str(place_of(row.after, seed, place.parent) / "best")]
    elif row.start is not None:
        command = ["finetune", "--model", row.start]
    held_out = place / "held_out.txt"
    held_out.write_text("\n".join(held_out_in(row, shared)) + "\n", encoding="utf-8")
    command += ["--recipe", row.recipe, "--held-out", str(held_out), "--out", str(place)]
    command += ["--data", *(str(shared / name) for name in row.data)]
    if row.outside:
        command += ["--outside"]
    if row.text:
        command += ["--text", *(str(shared / name) for name in row.text)]
    settings = [setting.replace("{shared}", str(shared.resolve())) for setting in (*row.settings, f"seed={seed}")]
    if command[0] == "finetune":  # its backbone has weights
        settings = [setting for setting in settings if not setting.startswith("vision_weights=")]
    command += [part for setting in settings for part in ("--set", setting)]
    if (place / "state.pt").exists():
        command.append("--resume")
    if captioner(command):
        raise SystemExit(f"the run in {place} failed")


def judge(out: Path, shared: Path, penalties: Sequence[float], row: Row, dev: Sequence[str]) -> dict[str, Any]:
    """Return the captions and scores of a run's best weights on the dev sets, and their held-out score.

    The held-out photos of the row's data choose the length penalty if there are several.
    """
    checkpoint = load(out / "best")
    first, *others = dev
    samples = load_split(shared / first, "dev")
    config = replace(checkpoint.generation, beams=BEAMS, length_penalty=penalties[0])
    if len(penalties) > 1:
        _, held_out = hold_out_named(photos_of(row, shared), out / "held_out.txt")
        config = choose_generation(checkpoint, held_out, beams=[BEAMS], penalties=penalties)
    evaluation = evaluate(checkpoint, samples, config, batch_size=32)
    records = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    checks = [r for r in records if r["kind"] == "validation" and "cider_d" in r]
    trained = [r for r in records if r["kind"] == "train"]
    return {
        "parameters": sum(p.numel() for p in checkpoint.model.decoder.parameters()),
        "length_penalty": config.length_penalty,
        "held_out_cider_d": max(r["cider_d"] for r in checks),
        "bleu4": evaluation.model.bleu.bleu4,
        "cider_d": evaluation.model.cider_d,
        "distinct": evaluation.diversity.distinct_captions,
        "distinct_2": evaluation.diversity.distinct_2,
        "repetitive": evaluation.diversity.repetitive,
        "perplexity": evaluation.perplexity,
        "steps": records[-1]["step"],
        "images_per_second": statistics.median(r["images_per_second"] for r in trained),
        "captions": list(evaluation.captions),
        "sets": {
            first: scores_of(evaluation),
            **{name: scores_on(checkpoint, load_split(shared / name, "dev"), config) for name in others},
        },
    }


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return a table with a line per row: the mean over the seeds, with several ± its 95 % interval by Student's t."""
    columns = {
        "held-out CIDEr-D": "held_out_cider_d",
        "BLEU-4": "bleu4",
        "CIDEr-D": "cider_d",
        "distinct captions, %": "distinct",
        "distinct-2": "distinct_2",
        "repeat themselves, %": "repetitive",
        "perplexity": "perplexity",
        "length penalty": "length_penalty",
    }
    lines = [
        f"| | seeds | parameters | {' | '.join(columns)} | steps | images/s |",
        "|---" * (len(columns) + 5) + "|",
    ]
    for name, runs in results.items():
        cells = [spread([run[key] for run in runs]) for key in columns.values()]
        speed = statistics.median(run["images_per_second"] for run in runs)
        lines.append(
            f"| {name} | {len(runs)} | {runs[0]['parameters'] / 1e6:.3f}M | {' | '.join(cells)} "
            f"| {runs[0]['steps']} | {speed:.0f} |"
        )
    return "\n".join(lines)


def differences(results: dict[str, list[dict[str, Any]]], dev: Path) -> str:
    """Return the differences of each row from the first on the same photos of the dev set ``dev``.

    They are means over the seeds, with 95 % intervals by paired bootstrap over photos.
    """
    metrics = {"bleu4": "BLEU-4", "cider_d": "CIDEr-D"}
    scores: dict[str, dict[str, Statistic]] = {}
    with Judge(load_split(dev, "dev")) as judge:
        for name, runs in results.items():
            by_seed = [judge.judge(run["captions"]).model.metrics for run in runs]
            scores[name] = {key: averaged([metric[key] for metric in by_seed]) for key in metrics}
    first, *others = scores
    lines = [f"| minus {first} | {' | '.join(metrics.values())} |", "|---" * (1 + len(metrics)) + "|"]
    for name in others:
        gaps = paired_differences(scores[first], scores[name])
        cells = [f"{gaps[k].value:+.2f} ({gaps[k].interval.low:+.2f} to {gaps[k].interval.high:+.2f})" for k in metrics]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}  # 97.5 % by runs


def spread(values: Sequence[float]) -> str:
    """Return the mean, and half of its interval."""
    mean = statistics.fmean(values)
    if len(values) not in STUDENT:
        return f"{mean:.1f}"
    half = STUDENT[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.1f} ± {half:.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--out", type=Path, help="default: runs/NAME")
    parser.add_argument("--features", type=Path, help="folder of cached features, to share it (default: OUT/features)")
    parser.add_argument("--table", action="store_true", help="print the existing results without running anything")
    args = parser.parse_args()
    experiment = read(args.experiment)
    rows, dev = experiment.rows, experiment.dev
    out = args.out or Path("runs") / args.experiment.stem
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in rows}
    for seed in experiment.seeds:
        for name, row in rows.items():
            place = place_of(name, seed, out)
            result = place / "result.json"
            if not result.exists() and not args.table:
                run(row, seed, args.shared, place, args.features or out / "features")
                found = judge(place, args.shared, experiment.penalties, row, dev)
                result.write_text(json.dumps(found), encoding="utf-8")
            if result.exists():
                results[name].append(json.loads(result.read_text(encoding="utf-8")))
        finished = {name: runs for name, runs in results.items() if runs}
        print(table(finished), flush=True)
    if len(finished) > 1:
        print(f"\n{differences(finished, args.shared / dev[0])}")
    for name in dev if len(dev) > 1 and finished else ():  # one seed: intervals are over photos
        print(f"\n{dev_scores.table(name, {row: runs[0]['sets'][name] for row, runs in finished.items()})}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
