"""The data recipes: the toy captions match the pictures, the photos are licensed, Flickr8k is laid out right."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

DATASETS = Path(__file__).resolve().parents[1] / "datasets"
PHOTOS = sorted((DATASETS / "photos").glob("*.jpg"))

toy = runpy.run_path(str(DATASETS / "toy" / "prepare.py"))
draw: Callable[..., None] = toy["draw"]
prepare: Callable[[Path], dict[str, int]] = runpy.run_path(str(DATASETS / "flickr8k" / "prepare.py"))["prepare"]


def read_rows(folder: Path, *splits: str) -> list[dict[str, Any]]:
    return [
        json.loads(line) for split in splits for line in (folder / f"{split}.jsonl").read_text("utf-8").splitlines()
    ]


@pytest.fixture(scope="module")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    draw(folder, images=200, seed=7)
    return folder


def test_toy_is_a_pure_function_of_its_seed(toy_folder: Path, tmp_path: Path) -> None:
    draw(tmp_path / "again", images=200, seed=7)
    draw(tmp_path / "other", images=200, seed=8)
    first, again, other = (
        {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        for folder in (toy_folder, tmp_path / "again", tmp_path / "other")
    )
    assert len(first) == 203
    assert first == again
    assert first.keys() == other.keys()
    assert first != other


def test_toy_in_chinese_shows_the_same_scenes(toy_folder: Path, tmp_path: Path) -> None:
    draw(tmp_path, images=200, seed=7, language="zh")
    assert (tmp_path / "images" / "00007.png").read_bytes() == (toy_folder / "images" / "00007.png").read_bytes()
    english, chinese = read_rows(toy_folder, "train", "dev", "test"), read_rows(tmp_path, "train", "dev", "test")
    back = {word: name for name, word in toy["CHINESE"].items()}
    for ours, theirs in zip(english, chinese, strict=True):
        assert ours["file_name"] == theirs["file_name"]
        names = re.findall("|".join((*toy["SIZES"], *toy["COLOURS"], *toy["SHAPES"])), ours["captions"][0])
        for caption in theirs["captions"]:
            assert not re.search(r"[A-Za-z\s]", caption)
            found = re.findall("|".join(sorted(back, key=len, reverse=True)), caption)
            told = [back[word] for word in found if back[word] not in toy["BACKGROUNDS"]]
            assert told == names


def test_toy_splits_share_no_scene(toy_folder: Path) -> None:
    rows = {split: read_rows(toy_folder, split) for split in ("train", "dev", "test")}
    assert {split: len(found) for split, found in rows.items()} == {"train": 160, "dev": 20, "test": 20}
    everything = [row for found in rows.values() for row in found]
    assert len({tuple(row["captions"]) for row in everything}) == 200
    assert all((toy_folder / row["file_name"]).is_file() for row in everything)


def test_toy_captions_can_be_read_off_the_pictures(toy_folder: Path) -> None:
    """A reader of the pixels alone arrives at each caption."""
    rows = read_rows(toy_folder, "train", "dev", "test")
    for row in rows:
        with Image.open(toy_folder / row["file_name"]) as image:
            assert caption_from_pixels(image) == row["captions"][0], row["file_name"]
    relations = {word for row in rows for word in ("left of", "above") if word in row["captions"][0]}
    assert relations == {"left of", "above"}


def test_toy_captions_tell_the_same_scene(toy_folder: Path) -> None:
    """The three templates name the same things in the same order and the same background."""
    thing = re.compile(r"a (?:small|large) \w+ (?:circle|square|triangle|star)\b")
    background = re.compile("|".join(toy["BACKGROUNDS"]))
    for row in read_rows(toy_folder, "train"):
        told = {(tuple(thing.findall(caption)), tuple(background.findall(caption))) for caption in row["captions"]}
        assert len(told) == 1
        assert len(row["captions"]) == len(set(row["captions"])) == 3


@pytest.mark.parametrize("images", [2, 30_000])
def test_toy_refuses_sizes_it_cannot_draw(tmp_path: Path, images: int) -> None:
    with pytest.raises(ValueError, match="images must be from 3 to"):
        draw(tmp_path, images=images, seed=0)


def caption_from_pixels(image: Image.Image) -> str:
    pixel = image.getpixel((0, 0))
    assert isinstance(pixel, tuple)
    background = nearest(pixel, toy["BACKGROUNDS"])
    difference = ImageChops.difference(image, Image.new("RGB", image.size, toy["BACKGROUNDS"][background]))
    mask = difference.convert("L").point(lambda value: 255 if value > 8 else 0)
    boxes, relation = objects(mask)
    things = [describe(image.crop(box), mask.crop(box)) for box in boxes]
    return f"{f' {relation} '.join(things)} on a {background} background"


def objects(mask: Image.Image) -> tuple[list[tuple[int, int, int, int]], str]:
    """Return boxes around the objects, left or top one first, and their relation, by an empty column or row."""
    left, top, right, bottom = mask.getbbox() or (0, 0, 0, 0)
    columns = [mask.crop((x, 0, x + 1, mask.height)).getbbox() is None for x in range(left, right)]
    rows = [mask.crop((0, y, mask.width, y + 1)).getbbox() is None for y in range(top, bottom)]
    halves, relation = [(left, top, right, bottom)], ""
    if any(columns):
        cut, relation = left + columns.index(True), "left of"
        halves = [(left, top, cut, bottom), (cut, top, right, bottom)]
    elif any(rows):
        cut, relation = top + rows.index(True), "above"
        halves = [(left, top, right, cut), (left, cut, right, bottom)]
    boxes = []
    for half in halves:
        inner = mask.crop(half).getbbox() or (0, 0, 0, 0)
        boxes.append((half[0] + inner[0], half[1] + inner[1], half[0] + inner[2], half[1] + inner[3]))
    return boxes, relation


def describe(picture: Image.Image, mask: Image.Image) -> str:
    """Return size by the longer side, shape by the filled part of its box, colour by the pixel in its middle."""
    filled = sum(mask.histogram()[128:]) / (mask.width * mask.height)
    shape = min(
        {"star": 0.40, "triangle": 0.53, "circle": 0.79, "square": 1.0}.items(), key=lambda s: abs(s[1] - filled)
    )
    pixel = picture.getpixel((picture.width // 2, picture.height * 6 // 10))
    assert isinstance(pixel, tuple)
    return f"a {'large' if max(mask.size) > 28 else 'small'} {nearest(pixel, toy['COLOURS'])} {shape[0]}"


def nearest(pixel: tuple[int, ...], palette: dict[str, tuple[int, int, int]]) -> str:
    return min(palette, key=lambda name: sum((a - b) ** 2 for a, b in zip(pixel, palette[name], strict=True)))


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.name)
def test_photos_open_and_have_a_licence(path: Path) -> None:
    with Image.open(path) as image:
        image.load()
        assert image.mode in ("RGB", "L")
        assert 300 <= max(image.size) <= 640
    table = (DATASETS / "photos" / "README.md").read_text("utf-8").splitlines()
    (row,) = [line for line in table if line.startswith(f"| `{path.name}` |")]
    _, _, what, source, author, licence, _ = (cell.strip() for cell in row.split("|"))
    assert what
    assert source
    assert author
    assert any(known in licence for known in ("public domain", "CC0 1.0", "CC BY 2.0", "CC BY 4.0"))


def test_photos_are_the_ones_listed() -> None:
    listed = re.findall(r"^\| `(\S+)` \|", (DATASETS / "photos" / "README.md").read_text("utf-8"), re.MULTILINE)
    assert [path.name for path in PHOTOS] == listed
    assert len(listed) == 20


@pytest.fixture
def flickr8k(tmp_path: Path) -> Path:
    """Write a Flickr8k of four photos: one per split, and one outside all lists, with a caption without a photo."""
    (tmp_path / "Flicker8k_Dataset").mkdir()
    text = tmp_path / "Flickr8k_text"
    text.mkdir()
    for name in ("1_a.jpg", "2_b.jpg", "3_c.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / "Flicker8k_Dataset" / name)
    tokens = [
        "1_a.jpg#1\ttwo .",
        "1_a.jpg#0\tone .",
        "2_b.jpg#0\ta café .",
        "3_c.jpg#0\tthree .",
        "4_d.jpg.1#0\tfour .",
    ]
    (text / "Flickr8k.token.txt").write_text("\n".join(tokens) + "\n", "utf-8")
    for split, name in {"train": "1_a.jpg", "dev": "2_b.jpg", "test": "3_c.jpg"}.items():
        (text / f"Flickr_8k.{split}Images.txt").write_text(name + "\n", "utf-8")
    return tmp_path


def test_flickr8k_keeps_splits_and_caption_order(flickr8k: Path) -> None:
    assert prepare(flickr8k) == {"train": 1, "dev": 1, "test": 1}
    assert read_rows(flickr8k, "train", "dev") == [
        {"file_name": "Flicker8k_Dataset/1_a.jpg", "captions": ["one .", "two ."]},
        {"file_name": "Flicker8k_Dataset/2_b.jpg", "captions": ["a café ."]},
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("Flickr_8k.testImages.txt", "3_c.jpg\n9_z.jpg\n", "no photo for 1 of 2 names in .*, first 9_z.jpg"),
        (
            "Flickr8k.token.txt",
            "1_a.jpg#0\tone .\n2_b.jpg#0\ttwo .\n",
            "no caption for 1 of 1 names in .*, first 3_c.jpg",
        ),
        ("Flickr8k.token.txt", "1_a.jpg,one .\n", "line 1: expected NAME.jpg#0<TAB>caption"),
    ],
)
def test_flickr8k_writes_nothing_from_bad_input(flickr8k: Path, name: str, text: str, message: str) -> None:
    (flickr8k / "Flickr8k_text" / name).write_text(text, "utf-8")
    with pytest.raises(ValueError, match=message):
        prepare(flickr8k)
    assert not list(flickr8k.glob("*.jsonl"))


def test_flickr8k_names_what_is_missing(flickr8k: Path) -> None:
    (flickr8k / "Flickr8k_text" / "Flickr_8k.devImages.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no Flickr_8k\.devImages\.txt in"):
        prepare(flickr8k)
