"""Training from shards: the same result as from files, constant memory, and resuming."""

from __future__ import annotations

import gc
import io
import tarfile
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from captioner.data.sources import read_splits
from captioner.training import plan as module
from captioner.training import trainer
from captioner.training.plan import Plan
from captioner.training.recipe import Recipe
from captioner.training.run import train
from captioner.training.setup import new_captioner, read_data
from captioner.training.tasks import Data
from captioner.training.tasks.cross_entropy import CrossEntropy
from captioner.training.trainer import Trainer

MakeRecipe = Callable[..., Recipe]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def pack(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.fixture
def shards(toy: Path, tmp_path: Path) -> Path:
    """Write the toy's pictures into three shards, with the names of its files."""
    samples = read_splits(toy).split("train")
    for shard in range(3):
        members: dict[str, bytes] = {}
        for sample in samples[shard::3]:
            members[sample.name] = sample.path.read_bytes()
            members[sample.name.replace(".png", ".txt")] = "\n".join(sample.captions).encode()
        (tmp_path / "shards").mkdir(exist_ok=True)
        pack(tmp_path / "shards" / f"train-{shard}.tar", members)
    return tmp_path / "shards"


def read(folder: Path, images: int = 4) -> Data:
    return read_data([str(folder)], validation_images=images, report=print)


def test_shards_hold_out_and_teach_what_files_do(toy: Path, shards: Path, recipe: MakeRecipe, tmp_path: Path) -> None:
    files, tars = read(toy), read(shards)
    assert {s.name for s in tars.validation} == {s.name for s in files.validation}
    assert {s.name for s in tars.train} == {s.name for s in files.train}
    by_name = {sample.name: sample for sample in files.train}
    same = replace(files, train=tuple(by_name[sample.name] for sample in tars.train), validation=tars.validation)
    plan = recipe({"augment": True}, workers=2)
    logs = []
    for name, data in (("files", same), ("tars", tars)):
        start = new_captioner(plan, same)
        Trainer(plan, data, start, tmp_path / name, log_every=1).run()
        logs.append(
            [line.split('"loss"')[1][:20] for line in (tmp_path / name / "log.jsonl").open() if '"loss"' in line]
        )
    assert logs[0] == logs[1]
    assert len(logs[0]) >= 6


def test_a_run_on_shards_goes_on_bit_for_bit(
    shards: Path, recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WHOLE", 4)
    monkeypatch.setattr(module, "RUN", 2)
    monkeypatch.setattr(module, "RUNS", 3)
    monkeypatch.setattr(trainer, "SAVE_SECONDS", -1)
    plan, data = recipe({"epochs": 2, "augment": True}), read(shards)
    train(plan, data, tmp_path / "unbroken")
    save, turns = trainer.write_state, iter(range(99))

    def save_and_stop(*args: object) -> None:
        save(*args)  # type: ignore[arg-type]
        if next(turns) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "write_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train(plan, data, tmp_path / "broken")
    train(plan, read(shards), tmp_path / "broken", resume=True)
    one, two = (torch.load(tmp_path / name / "state.pt", weights_only=True)["model"] for name in ("unbroken", "broken"))
    assert all(one[name].equal(two[name]) for name in one)


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize(("processes", "accumulate"), [(1, 1), (3, 2)])
def test_a_long_epoch_takes_every_item_once_and_no_two_processes_share_one(
    monkeypatch: pytest.MonkeyPatch, lengths: bool, processes: int, accumulate: int
) -> None:
    monkeypatch.setattr(module, "WHOLE", 100)
    monkeypatch.setattr(module, "RUN", 16)
    monkeypatch.setattr(module, "RUNS", 4)
    long = [n % 7 for n in range(1003)] if lengths else None
    plans = [Plan(1003, 12, accumulate, "s", process, processes, long) for process in range(processes)]
    seen = Counter(place for plan in plans for part in plan.keys(0) for place, _ in part)
    assert set(seen.values()) == {1}
    assert len(seen) == 1003 // 12 * 12 == plans[0].steps * 12
    parts = list(plans[0].keys(0))
    assert len(parts) == plans[0].steps * accumulate
    assert list(plans[0].keys(0, 40)) == parts[40 * accumulate :]
    assert parts != list(plans[0].keys(1))


def test_a_long_epoch_reads_in_runs_and_yet_mixes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WHOLE", 100)
    monkeypatch.setattr(module, "RUN", 16)
    monkeypatch.setattr(module, "RUNS", 4)
    steps = [[place for place, _ in part] for part in Plan(1600, 16, 1, "s").keys(0)]
    for pool in (steps[at : at + 4] for at in range(0, 100, 4)):
        runs = {place // 16 for step in pool for place in step}
        assert len(runs) == 4  # 64 items of four runs
    assert sum(len({place // 16 for place in step}) > 1 for step in steps) > 95


def many(path: Path, images: int) -> None:
    pixel = b"\x89PNG not opened here"
    words = "a caption of some length that is said of an image which nobody looks at, number"
    members: dict[str, bytes] = {}
    for n in range(images):
        members |= {f"{n:07d}.png": pixel, f"{n:07d}.txt": "\n".join(f"{words} {n} {k}" for k in range(5)).encode()}
    pack(path, members)


def test_memory_stays_flat(tmp_path: Path, recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the tar to the last key of an epoch, an image takes a few bytes; its captions alone have 600."""
    for name, value in (("WHOLE", 256), ("RUN", 16), ("RUNS", 8)):
        monkeypatch.setattr(module, name, value)
    plan = recipe({"batch_size": 32})
    tokenizer = new_captioner(plan, Data(train=(), validation=(), text=("a caption",) * 9)).tokenizer
    peaks = {}
    for images in (500, 4500):
        many(tmp_path / f"{images}.tar", images)
        gc.collect()
        tracemalloc.start()
        data = read_data([str(tmp_path / f"{images}.tar")], validation_images=50, report=print)
        task = CrossEntropy(plan, plan.stages[0], data, tokenizer)
        items = task.items(None)
        steps = Plan(len(items), 32, 1, "s", lengths=task.lengths())
        read = sum(len(items.samples[place].captions) for part in islice(steps.keys(0), 10**6) for place, _ in part)
        peaks[images] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert read == 5 * 32 * steps.steps
    assert (peaks[4500] - peaks[500]) / 4000 < 60
