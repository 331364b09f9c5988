"""Kinds that are left out of the photos: the data without them, and the mentions of them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from captioner.data.samples import Sample
from captioner.data.sources import load_split

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture
def left_out(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    for name in ("left_out", "run_experiments", "dev_scores"):
        sys.modules.pop(name, None)
    import left_out

    return left_out


ROWS = {
    "flickr8k": [("dog", ["a dog on grass"], {}), ("sofa", ["a dog on a sofa", "a dog"], {})],
    "coco": [("far", ["a street with people"], {"objects": ["bus"]}), ("bus", ["two buses"], {"objects": ["bus"]})],
    "written": [
        ("wine", ["a red drink"], {"label": "wine bottle", "objects": []}),
        ("cup", ["a cup"], {"label": "cup"}),
    ],
}
TEXT = "A dog on a sofa.\na zebra on grass\n"


@pytest.fixture
def shared(tmp_path: Path, toy: Path) -> Path:
    photo = next(path for path in toy.rglob("*") if path.suffix in (".png", ".jpg"))
    for folder, rows in ROWS.items():
        (tmp_path / folder / "images").mkdir(parents=True)
        for name, _, _ in rows:
            (tmp_path / folder / "images" / f"{name}{photo.suffix}").write_bytes(photo.read_bytes())
        (tmp_path / folder / "train.jsonl").write_text(
            "".join(
                json.dumps({"file_name": f"images/{name}{photo.suffix}", "captions": captions, **more}) + "\n"
                for name, captions, more in rows
            )
        )
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "lines.txt").write_text(TEXT)
    return tmp_path


def test_no_photo_of_the_kinds_stays(left_out: Any, shared: Path, tmp_path: Path) -> None:
    data = tmp_path / "out"
    assert left_out.divide(shared, data, photos=5) == {"flickr8k": 1, "coco": 2, "written": 1}
    assert left_out.divide(shared, data, photos=5) == {"flickr8k": 1, "coco": 2, "written": 1}, "it can be repeated"
    for folder, name in (("flickr8k", "dog"), ("written", "cup")):
        [kept] = load_split(data / folder, "train")
        assert Path(kept.name).stem == name
        assert kept.path.is_file()
    judged = load_split(data / "left_out", "dev")
    assert sorted(Path(sample.name).stem for sample in judged) == ["bus", "sofa"], "a caption has to name the kind"
    assert (data / "text" / "lines.txt").read_text() == "a zebra on grass\n", "the text keeps the kinds"


def samples_of(*groups: list[str]) -> list[Sample]:
    return [Sample(name=str(n), path=Path("x"), captions=tuple(captions)) for n, captions in enumerate(groups)]


def test_mentions(left_out: Any) -> None:
    samples = samples_of(["a couch", "a sofa"], ["a couch"], ["a zebra"], ["a dog"])
    found = left_out.mentions_in(["a settee", "a chair", "a horse on a couch", "a dog"], samples)
    assert found["f1"]["couch"] == pytest.approx(100 * 2 * 1 / (2 + 2))  # one right of two named and two shown
    assert found["f1"]["zebra"] == 0
    assert found["false_by_kind"]["couch"] == pytest.approx(50)  # one of the two photos without a couch
    assert found["false"] == pytest.approx(25)


def test_a_row_starts_from_the_given_captioner(
    left_out: Any, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import run_experiments

    asked: list[list[str]] = []
    monkeypatch.setattr(run_experiments, "captioner", lambda command: asked.append(command) and 0)
    rows = run_experiments.read(SCRIPTS / "experiments" / "left_out.toml").rows
    row = rows["labels in the text too"]
    for start in (None, "lm"):
        run_experiments.run(replace(row, start=start), 1, shared, tmp_path / "place", tmp_path / "features")
    new, tuned = asked
    weights = f"vision_weights={shared.resolve()}/weights/tf_efficientnet_lite3.safetensors"
    assert weights in new
    assert weights not in tuned
    assert tuned[:3] == ["finetune", "--model", "lm"]
    assert f"stages.1.options.classifier={weights.partition('=')[2]}" in tuned
