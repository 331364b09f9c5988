"""The commands of docs/finetune.md run on a small dataset; those of docs/data.md and docs/training.md parse."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from captioner.cli import _parser, main

DOCS = Path(__file__).resolve().parents[1] / "docs"
QUICK = ["precision=fp32", "workers=0", "validation_images=2"]
QUICK += ["stages.0.epochs=1", "stages.0.epoch_steps=2", "stages.0.batch_size=8"]


def commands(name: str) -> list[list[str]]:
    """Return the arguments of every call of captioner in a page's shell blocks, without launcher and comments."""
    blocks = re.findall(r"```bash\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL)
    calls = [re.search(r"\bcaptioner (\w.*)", line) for block in blocks for line in block.splitlines()]
    return [shlex.split(call.group(1), comments=True) for call in calls if call]


@pytest.mark.parametrize(
    "arguments", commands("finetune.md") + commands("data.md") + commands("training.md"), ids=" ".join
)
def test_commands_parse(arguments: list[str]) -> None:
    assert _parser().parse_args(arguments).verb


@pytest.fixture
def here(toy: Path, learnt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the folders that the page names, each in its format, and a quick model to start from."""
    rows = [json.loads(line) for line in (toy / "train.jsonl").read_text().splitlines()]
    names = [Path(row["file_name"]).name for row in rows]
    for folder in ("my-photos", "more", "coco/images"):
        (tmp_path / folder).mkdir(parents=True)
        for name in names:
            shutil.copy(toy / "images" / name, tmp_path / folder / name)
    for name, row in zip(names, rows, strict=True):
        (tmp_path / "my-photos" / name).with_suffix(".txt").write_text("\n".join(row["captions"]))
    table = [f'{name},"{row["captions"][0]}"\n' for name, row in zip(names, rows, strict=True)]
    (tmp_path / "more" / "captions.csv").write_text("image,caption\n" + "".join(table))
    images = [{"id": n, "file_name": name} for n, name in enumerate(names)]
    notes = [{"image_id": n, "caption": caption} for n, row in enumerate(rows) for caption in row["captions"]]
    (tmp_path / "coco" / "captions.json").write_text(json.dumps({"images": images, "annotations": notes}))
    monkeypatch.setattr("captioner.checkpoint.locate.SHIPPED", learnt / "best")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_commands_run_in_order(here: Path, hub: Any, capfd: pytest.CaptureFixture[str]) -> None:
    outputs: dict[str, list[str]] = {}
    for verb, *rest in commands("finetune.md"):
        quick = [part for setting in QUICK for part in ("--set", setting)] if verb == "finetune" else []
        code = main([verb, *rest, *quick])  # of two values of one setting, the last one counts
        out, err = capfd.readouterr()
        assert code == 0, (verb, rest, err)
        outputs.setdefault(verb, []).append(out)
        if "--before" in rest:
            texts = [path.read_text() for path in here.glob("more/*.txt")]
            assert len(texts) == 20
            assert all(text.startswith("zwx drawing, ") for text in texts)
    runs = [out.strip() for out in outputs["finetune"]]
    names = ("finetune", "csv", "mine", "longer", "reward", "mine", "lora", "prefix", "two", "too")
    assert runs == [f"runs/{name}/best" for name in names]
    largest = max(path.stat().st_size for path in here.rglob("*") if path.is_file())
    assert largest < 50e6, "the runs start from the quick model, not from the shipped one"
    assert outputs["convert"] == ["merged\n"]
    assert "CIDEr" in outputs["compare"][0]
    assert all("no problems were found" in out for out in outputs["inspect"])
    assert (here / "inspection.html").stat().st_size > 1000
    assert outputs["push"] == [f"{hub.url}/me/my-captioner\n"]
    printed = [out for out in outputs["caption"] if out]
    assert [out.count("\t") for out in printed] == [20, 20], "by the run, and by what was pushed"
    assert printed[0] == printed[1]
