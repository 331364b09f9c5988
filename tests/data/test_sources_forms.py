"""Further forms of caption files: keys, conversations, inexact file names, missing values, ids."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioner.data.sources import read_splits
from captioner.errors import DataError


def captions(path: Path) -> dict[str, tuple[str, ...]]:
    return {sample.path.name: sample.captions for group in read_splits(path).splits.values() for sample in group}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a.jpg", "B.JPG", "sub/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


TURNS = [{"from": "human", "value": "<image>\nSay."}, {"from": "gpt", "value": "a dog"}, {"from": "gpt", "value": "no"}]
CHAT = [{"role": "user", "content": "Say."}, {"role": "assistant", "content": "a dog"}]


@pytest.mark.parametrize(
    ("name", "document", "found"),
    [
        ("x.json", {"a.jpg": ["one", "two"], "B.JPG": ["three"]}, {"a.jpg": ("one", "two"), "B.JPG": ("three",)}),
        ("x.json", {"a.jpg": "one", "sub/c.png": "two"}, {"a.jpg": ("one",), "c.png": ("two",)}),
        ("meta_cap.json", {"a": {"caption": "one", "tags": "t"}, "b": {"tags": "t"}, "sub/c": {"caption": "c"}}, None),
        ("x.json", {"a": ["one"], "sub/C": ["c"]}, {"a.jpg": ("one",), "c.png": ("c",)}),
        ("x.json", {"image": "a.jpg", "caption": "one"}, {"a.jpg": ("one",)}),
        (
            "x.json",
            [{"id": 1, "image": "a.jpg", "conversations": TURNS}, {"conversations": TURNS}],
            {"a.jpg": ("a dog",)},
        ),
        ("x.json", [{"image": "a.jpg", "messages": CHAT}], {"a.jpg": ("a dog",)}),
        ("x.json", [{"image": "a.jpg", "prompt": "a dog"}], {"a.jpg": ("a dog",)}),
    ],
)
def test_forms_of_json(photos: Path, name: str, document: object, found: dict[str, tuple[str, ...]] | None) -> None:
    (photos / name).write_text(json.dumps(document))
    assert captions(photos / name) == (found or {"a.jpg": ("one",), "c.png": ("c",)})


@pytest.mark.parametrize(
    "document", [{"license": "MIT", "author": "me"}, {"count": 3, "a.jpg": "x"}, {}, {"a.jpg": {"tags": "t"}}]
)
def test_other_objects_hold_no_captions(photos: Path, document: object) -> None:
    (photos / "x.json").write_text(json.dumps(document))
    with pytest.raises(DataError):
        read_splits(photos / "x.json")


@pytest.mark.parametrize("name", ["a", "A.jpg", "a.JPG", "A", "sub/c", "SUB/C.png", "sub\\C.PNG", "b"])
def test_names_in_another_case_or_without_suffix(photos: Path, name: str) -> None:
    (photos / "x.csv").write_text(f"image,caption\n{name},one\n")
    assert list(captions(photos / "x.csv").values()) == [("one",)]


def test_a_name_that_fits_several_files_names_none(photos: Path) -> None:
    (photos / "a.png").touch()
    (photos / "x.csv").write_text("image,caption\na,one\nb,two\nsub/c,three\n")
    data = read_splits(photos / "x.csv")
    assert "1 of 3 images is missing and was left out: a" in data.problems[0]


def test_a_file_of_the_very_name_comes_first(photos: Path) -> None:
    (photos / "A.JPG").touch()
    (photos / "x.csv").write_text("image,caption\na.jpg,one\nA.JPG,two\n")
    assert captions(photos / "x.csv") == {"a.jpg": ("one",), "A.JPG": ("two",)}


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "null", "<NA>", " N/A "])
def test_a_missing_value_is_no_caption(photos: Path, word: str) -> None:
    (photos / "x.csv").write_text(f"image,caption\na.jpg,one\na.jpg,{word}\nB.JPG,nan and none\n")
    assert captions(photos / "x.csv") == {"a.jpg": ("one",), "B.JPG": ("nan and none",)}
    assert "1 empty caption was ignored" in read_splits(photos / "x.csv").problems[0]
    (photos / "x.jsonl").write_text('{"image": "a.jpg", "captions": [NaN, "one", "nan", null]}\n')
    assert captions(photos / "x.jsonl") == {"a.jpg": ("one",)}


def test_numbers_that_pandas_made_of_whole_ones(photos: Path) -> None:
    (photos / "7.jpg").touch()
    images = [{"id": 1.0, "file_name": "a.jpg"}, {"id": "2", "file_name": "B.JPG"}]
    annotations = [{"image_id": 1, "caption": "one"}, {"image_id": 2.0, "caption": "two"}]
    (photos / "x.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    assert captions(photos / "x.json") == {"a.jpg": ("one",), "B.JPG": ("two",)}
    assert [sample.id for sample in read_splits(photos / "x.json").split("all")] == ["1", "2"]
    (photos / "x.jsonl").write_text('{"image": 7.0, "text": "seven"}\n')
    assert captions(photos / "x.jsonl") == {"7.jpg": ("seven",)}


def test_why_metadata_was_passed_over_is_told(photos: Path) -> None:
    (photos / "metadata.jsonl").write_text('{"file_name": "a.jpg", "beschreibung": "ein Hund"}\n')
    with pytest.raises(DataError) as named:
        read_splits(photos / "metadata.jsonl")
    with pytest.raises(DataError) as folder:
        read_splits(photos)
    assert str(named.value) in str(folder.value)
    assert "3 images but no caption file beside them" in str(folder.value)


def test_a_sample_of_two_files_with_more_in_their_names(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"s{number}.input.jpg").touch()
        (tmp_path / f"s{number}.outputs.txt").write_text(f"text {number}\n")
    assert captions(tmp_path) == {"s0.input.jpg": ("text 0",), "s1.input.jpg": ("text 1",)}


def test_patterns_stand_for_files_and_folders(photos: Path) -> None:
    (photos / "p-1.csv").write_text("image,caption\na.jpg,one\n")
    (photos / "p-2.csv").write_text("image,caption\na.jpg,two\nB.JPG,three\n")
    assert captions(photos / "p-*.csv") == {"a.jpg": ("one", "two"), "B.JPG": ("three",)}
    for name in ("train", "val"):
        (photos / "sets" / name).mkdir(parents=True)
        (photos / "sets" / name / f"{name}.jpg").touch()
        (photos / "sets" / name / f"{name}.txt").write_text(name)
    assert [*read_splits(photos / "sets" / "*").splits] == ["train", "dev"]
    with pytest.raises(DataError, match=r"no file or folder matches .*\*\.tar; check the pattern"):
        read_splits(photos / "*.tar")
    with pytest.raises(DataError, match="is an image without captions; name its folder"):
        read_splits(photos / "*.jpg")


@pytest.mark.parametrize(
    ("sidecars", "found", "said"),
    [("lines", ("one", "two"), "each line is a caption"), ("one", ("one two",), "each file is one caption")],
)
def test_a_sidecar_of_several_lines(tmp_path: Path, sidecars: str, found: tuple[str, ...], said: str) -> None:
    for name, text in (("a", "one\n\n two\n"), ("b", "alone\n")):
        (tmp_path / f"{name}.jpg").touch()
        (tmp_path / f"{name}.txt").write_text(text)
    data = read_splits(tmp_path, sidecars=sidecars)  # type: ignore[arg-type]
    assert [sample.captions for sample in data.split("all")] == [found, ("alone",)]
    (note,) = data.notes
    assert f"1 of 2 caption files has several lines: {said}" in note
    (tmp_path / "a.txt").write_text("one\n")
    assert read_splits(tmp_path).notes == ()


def test_what_a_folder_leaves_out_is_noted(tmp_path: Path) -> None:
    for name in ("1.jpg", "@eaDir/1.jpg/t.jpg", "2.nef"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "1.txt").write_text("one")
    data = read_splits(tmp_path)
    assert (data.problems, len(data.split("all"))) == ((), 1)
    assert "left out: 1 folder of thumbnails or deleted files (@eaDir)" in data.notes[0]
    assert "not supported: 1 .nef" in data.notes[1]
