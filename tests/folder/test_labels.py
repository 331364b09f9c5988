"""Labels in the tables of captions."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from captioner.captioning.captions import Caption
from captioner.captioning.labels import Label
from captioner.data.find import find_items
from captioner.folder.job import photos_of
from captioner.folder.plan import Plan, place_of
from captioner.folder.run import Run

from .conftest import Go
from .test_run import records


def test_labels_are_written_to_jsonl_and_csv(photos: Path) -> None:
    labels = (Label("cat", 0.97), Label("=couch", 0.61234))
    plan = Plan(place=place_of([os.fspath(photos)], None), outputs=("jsonl", "csv"))
    run = Run(plan, {})
    try:
        todo = run.todo(photos_of(find_items([os.fspath(photos)]), plan.place))
        caption = Caption("a cat", -0.5, 0.8, labels=labels)
        assert len(list(run.caption(todo, lambda sources: (caption for _ in sources)))) == 4
        run.finish()
    finally:
        run.close()
    assert records(photos / "captions.jsonl")[0]["labels"] == [["cat", 0.97], ["=couch", 0.6123]]
    with open(photos / "captions.csv", encoding="utf-8", newline="") as file:
        assert next(csv.DictReader(file))["labels"] == "cat, =couch"


def test_a_table_without_the_column_of_labels_gets_it(go: Go, photos: Path) -> None:
    (photos / "captions.csv").write_text('path,caption,score,confidence\n1.png,mine,,\n"gone.png","kept\nso",,\n')
    assert len(go("csv")) == 3
    with open(photos / "captions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["caption"] for row in rows[:2]] == ["mine", "kept\nso"]
    assert len(rows) == 5
    assert {row["labels"] for row in rows} == {""}
