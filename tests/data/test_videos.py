"""Scenes and frames of generated videos."""

from __future__ import annotations

import os
import pickle
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.data.find import find_items
from captioner.data.images import open_image
from captioner.data.videos import LARGEST, Frames

av = pytest.importorskip("av")

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (20, 30, 230)}


def video(
    path: Path, scenes: list[tuple[str, float]], *, size: tuple[int, int] = (96, 64), shape: Fraction = Fraction(1)
) -> Path:
    """Write a video of scenes of one colour each, of the given seconds, at 10 frames a second, with a moving bar."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.sample_aspect_ratio = shape
        number = 0
        for colour, seconds in scenes:
            for _ in range(round(10 * seconds)):
                image = Image.new("RGB", size, COLOURS[colour])
                image.paste((255, 255, 255), (number % size[0], 0, number % size[0] + 8, size[1]))
                number += 1
                for packet in stream.encode(av.VideoFrame.from_image(image)):
                    container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def told(path: Path, frames: Frames = "scenes") -> list[str]:
    """Return the part after the path in each id with the main colour of the frame, or the error."""
    lines = []
    for item in find_items([path], frames=frames):
        if item.problem:
            lines.append(item.problem.replace(f"{path.parent}/", ""))
            continue
        pixels = np.asarray(open_image(item)).reshape(-1, 3)
        middle = np.median(pixels, axis=0)
        nearest = min(COLOURS, key=lambda name: float(np.abs(middle - COLOURS[name]).sum()))
        lines.append(f"{item.id.removeprefix(str(path))} {nearest}")
    return lines


SCENES = [("red", 3.0), ("green", 2.0), ("blue", 4.0), ("red", 2.0)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "mov"])
def test_one_frame_from_the_middle_of_each_scene(suffix: str, tmp_path: Path) -> None:
    path = video(tmp_path / f"clip.{suffix}", SCENES)
    found = told(path)
    assert [line.split()[1] for line in found] == ["red", "green", "blue", "red"]
    times = [float(line.split()[0].removeprefix("#t=")) for line in found]
    for time, (start, end) in zip(times, ((0, 3), (3, 5), (5, 9), (9, 11)), strict=True):
        assert abs(time - (start + end) / 2) <= 0.35 * (end - start) / 2 + 0.2
    assert told(path) == found, "the same ids the next time"


def test_frames_at_even_distances(tmp_path: Path) -> None:
    path = video(tmp_path / "clip.mp4", SCENES)
    assert told(path, 1) == ["#t=5.5 blue"]
    assert told(path, 4) == ["#t=1.4 red", "#t=4.2 green", "#t=6.9 blue", "#t=9.7 red"]
    assert len({line.split()[0] for line in told(path, 200)}) == len(told(path, 200)) <= 110
    every = told(path, 10**9)  # more than it has
    assert len({line.split()[0] for line in every}) == len(every) == 110


def test_flicker_is_no_scene(tmp_path: Path) -> None:
    path = video(tmp_path / "clip.mp4", [("red", 0.3), ("green", 0.3), ("red", 0.3), ("green", 0.2), ("red", 3.0)])
    assert len(told(path)) <= 2


def test_frames_are_upright_of_square_pixels_and_not_large(tmp_path: Path) -> None:
    wide = video(tmp_path / "wide.mp4", [("red", 0.5)], size=(64, 64), shape=Fraction(2))
    (item,) = find_items([wide])
    assert open_image(item).size == (128, 64)
    large = video(tmp_path / "large.mp4", [("red", 0.3)], size=(2048, 512))
    (item,) = find_items([large])
    assert open_image(item).size == (LARGEST, 256)
    data = bytearray(video(tmp_path / "turned.mp4", [("red", 0.5)]).read_bytes())
    place = data.index(b"tkhd") + 44
    matrix = [0, 1 << 16, 0, -(1 << 16), 0, 0, 64 << 16, 0, 1 << 30]  # a quarter to the right
    data[place : place + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    (tmp_path / "turned.mp4").write_bytes(data)
    (item,) = find_items([tmp_path / "turned.mp4"])
    assert open_image(item).size == (64, 96)
    assert pickle.loads(pickle.dumps(item)).id == item.id
    assert item.path is None


def test_videos_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = video(tmp_path / "clip.avi", SCENES).read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(data[: len(data) // 2])
    assert told(cut)[0].endswith("red"), "what is there is captioned"
    for name, content in {"text.mp4": b"no video", "head.mp4": data[:40], "zeros.mkv": bytes(5000)}.items():
        (tmp_path / name).write_bytes(content)
        (line,) = told(tmp_path / name)
        assert line.startswith(f"cannot read {name}: the video is damaged or its format is unsupported (")
    (tmp_path / "empty.mp4").touch()
    assert told(tmp_path / "empty.mp4") == ["cannot read empty.mp4: it is empty"]
    os.mkfifo(tmp_path / "pipe.mp4")
    assert told(tmp_path / "pipe.mp4") == ["cannot read pipe.mp4: it is a pipe, socket or device, not a file"]
    (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{tmp_path}/clip.avi\n")
    assert told(tmp_path / "list.mp4")[0].startswith("cannot read list.mp4: the video is damaged"), "no list of files"
    monkeypatch.setitem(sys.modules, "av", None)
    assert told(cut) == ["cannot read cut.avi: it is a video, which needs av: pip install 'captioner[video]'"]


def test_a_folder_of_videos_says_how_to_name_them(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4", [("red", 0.3)])
    (item,) = find_items([tmp_path])
    assert item.problem.endswith(f"the folder contains no images; name its other files: {tmp_path}/*.mp4")
    assert [item.id for item in find_items([f"{tmp_path}/*.mp4"])] == [f"{tmp_path}/a.mp4#t=0.0"]
