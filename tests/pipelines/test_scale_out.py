"""Captioning through Ray Data, on a local cluster with two workers of half a core each."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import signal
import socket
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import captioner
from captioner.cli import main
from captioner.errors import CheckpointError, ConfigError, MissingExtraError, UsageError
from captioner.training.tasks import Data

HERE = importlib.util.find_spec("ray") is not None


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def photos(data: Data) -> list[Path]:
    return [sample.path for sample in (*data.train, *data.validation)]


@pytest.fixture(scope="module")
def said(learnt: Path, photos: list[Path]) -> dict[str, str]:
    found = captioner.load(learnt, device="cpu").caption(photos)
    return {str(photo): caption.text for photo, caption in zip(photos, found, strict=True)}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(folder).to_pylist()


def workers() -> list[int]:
    """Return the processes that hold a model."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with_name = entry / "cmdline"
            try:
                if b"MapWorker" in with_name.read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.slow
def test_every_input_has_one_row_though_a_worker_is_killed(
    cluster: None, tmp_path: Path, photos: list[Path], learnt: Path, said: dict[str, str]
) -> None:
    import ray.data

    from captioner.pipelines.scale_out import caption_dataset, write

    items = [{"path": str(photos[n % len(photos)]), "number": n} for n in range(4000)]
    captions = caption_dataset(
        ray.data.from_items(items, override_num_blocks=100), model=learnt, workers=2, cpus=0.5, batch_size=8
    )
    out = tmp_path / "captions"
    running = threading.Thread(target=write, args=(captions, out, "parquet"))
    running.start()
    deadline = time.monotonic() + 600
    while not list(out.glob("*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.05)
    there = len(list(out.glob("*.parquet")))
    first = workers()
    assert len(first) == 2
    os.kill(first[0], signal.SIGKILL)
    assert 0 < there < 90, "killed in the middle"
    running.join(600)
    assert not running.is_alive()
    assert first[0] not in workers()
    rows = rows_of(out)
    assert Counter(row["number"] for row in rows) == Counter(range(4000))
    assert all(row["caption"] == said[row["path"]] and row["error"] is None for row in rows)
    with pytest.raises(UsageError, match="already exists; name a new folder"):
        write(captions, out, "parquet")


@pytest.mark.slow
def test_forms_of_images(cluster: None, tmp_path: Path, photos: list[Path], learnt: Path, said: dict[str, str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    from captioner.pipelines.scale_out import caption_dataset, read

    contents = [photo.read_bytes() for photo in photos]
    ids = [str(photo) for photo in photos]

    def captioned(names: list[str], **options: Any) -> list[dict[str, Any]]:
        settings: dict[str, Any] = {"model": learnt, "workers": 1, "cpus": 0.5, "batch_size": 5, **options}
        return caption_dataset(read(names), **settings).take_all()

    table = pa.table({"image": contents, "id": ids})
    pairs = pa.table({"image": [{"bytes": content, "path": None} for content in contents], "id": ids})
    named = pa.table({"path": [*ids, None, "none.png"], "id": [*ids, "nothing", "none"]})
    for number, content in enumerate((table, pairs, named)):
        pyarrow.parquet.write_table(content, tmp_path / f"{number}.parquet")
        rows = {row["id"]: row for row in captioned([str(tmp_path / f"{number}.parquet")])}
        assert {name: rows[name]["caption"] for name in ids} == said
        assert len(rows) == len(content)
        assert ("image" in next(iter(rows.values()))) is False
    assert rows["none"]["error"] == "cannot read none.png: there is no such file"
    assert rows["none"]["caption"] is rows["none"]["score"] is None
    assert rows["nothing"]["error"].startswith("the row has no image in image, bytes")
    kept = captioned([str(tmp_path / "0.parquet")], keep_images=True, column="image", beams=2)
    assert {row["id"]: row["image"] for row in kept} == dict(zip(ids, contents, strict=True))

    with tarfile.open(tmp_path / "shard-0.tar", "w") as tar:
        for number, content in enumerate(contents):
            for suffix, part in (("png", content), ("json", json.dumps({"id": ids[number]}).encode())):
                entry = tarfile.TarInfo(f"{number:05}.{suffix}")
                entry.size = len(part)
                tar.addfile(entry, io.BytesIO(part))
    rows_ = captioned([str(tmp_path / "shard-0.tar")])
    assert {json.loads(row["json"])["id"]: row["caption"] for row in rows_} == said
    with pytest.raises(UsageError, match=r"\.parquet files cannot be mixed with other inputs"):
        read([str(tmp_path / "0.parquet"), ids[0]])


@pytest.mark.slow
def test_from_the_command_line(
    cluster: None,
    tmp_path: Path,
    photos: list[Path],
    learnt: Path,
    said: dict[str, str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    command = ["caption", "--ray", "auto", "--model", str(learnt), "--worker-cpus", "0.5", "--workers", "1"]
    (tmp_path / "empty.jpg").touch()
    assert main([*command, *map(str, photos), str(tmp_path / "empty.jpg")]) == 1
    done = capfd.readouterr()
    assert dict(line.split("\t") for line in done.out.splitlines()) == said
    assert f"captioner: cannot read {tmp_path}/empty.jpg: it is empty" in done.err
    out = tmp_path / "out"
    assert main([*command, *map(str, photos), "--write", "jsonl", "--out", str(out)]) == 0
    assert capfd.readouterr().out == f"{out}\n"
    rows = [json.loads(line) for part in out.iterdir() for line in part.read_text().splitlines()]
    assert {row["path"]: row["caption"] for row in rows} == said
    for wrong, message in (
        (["--stream"], "--stream cannot be combined with --ray"),
        (["--write", "parquet"], "--out FOLDER require each other"),
        (["--write", "txt", "--out", str(tmp_path / "new")], "written as parquet or jsonl, not 'txt'"),
        (["--rerank", "matching", "--candidates", "2"], "has no matching head"),
    ):
        assert main([*command, str(photos[0]), *wrong]) in (1, 2)
        error = capfd.readouterr().err
        assert message in error
        assert "Traceback" not in error.split("captioner: ")[-1]


@pytest.mark.skipif(not HERE, reason="ray is not installed")
def test_what_every_worker_would_stumble_over_is_said_at_once(monkeypatch: pytest.MonkeyPatch, learnt: Path) -> None:
    import ray

    from captioner.pipelines.scale_out import caption_dataset, read

    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    with pytest.raises(CheckpointError, match="is not a checkpoint directory"):
        caption_dataset(None, model="nowhere")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="beams must be at least 1"):
        caption_dataset(None, model=learnt, beams=0)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="workers must be at least 1"):
        caption_dataset(None, model=learnt, workers=0)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="there are no images to caption"):
        read([])


@pytest.mark.skipif(not HERE, reason="ray is not installed")
@pytest.mark.parametrize("broken", [False, True])
def test_a_video_is_refused(broken: bool, tmp_path: Path) -> None:
    from captioner.pipelines.scale_out import read

    path = tmp_path / "clip.mp4"
    path.touch()
    if not broken:
        av = pytest.importorskip("av")
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height = 64, 64
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
            container.mux(stream.encode())
    with pytest.raises(UsageError, match=r"clip\.mp4 is a video; save its frames as images, or caption it without Ray"):
        read([str(path)])


@pytest.mark.skipif(not HERE, reason="ray is not installed")
def test_a_cluster_that_does_not_answer_is_said_soon(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        began = time.monotonic()
        assert main(["caption", "photo.jpg", "--ray", address]) == 1
    assert time.monotonic() - began < 30
    error = capsys.readouterr().err
    assert re.search(
        rf"^captioner: no Ray cluster answers at '{address}' \(.*refused\); start one, or use local$", error, re.M
    )


def test_without_ray(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    from captioner.pipelines.scale_out import connect

    with pytest.raises(MissingExtraError, match=r"pip install 'captioner\[ray\]'"):
        connect("local")
    assert main(["caption", "photo.jpg", "--ray", "local"]) == 1
    assert capsys.readouterr().err == "captioner: captioning on many machines needs ray: pip install 'captioner[ray]'\n"


def test_its_former_path_is_kept_for_one_release() -> None:
    from captioner.pipelines import scale_out
    from captioner.scale_out import caption_dataset

    assert caption_dataset is scale_out.caption_dataset
