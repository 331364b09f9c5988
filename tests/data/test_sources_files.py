"""Every form of caption file, read by the public function."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from captioner.data.sources import read_splits
from captioner.data.splits import Dataset
from captioner.errors import DataError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file, and empty images with the names in it."""

    def do(name: str, content: Any, images: str = "a.jpg b.jpg") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, (str, bytes)) else json.dumps(content)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        for image in images.split():
            (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / image).touch()
        return path

    return do


def content(data: Dataset) -> dict[str, dict[str, list[str]]]:
    """Return captions by split and name; every path must be a file."""
    assert all(sample.path.is_file() for samples in data.splits.values() for sample in samples)
    return {split: {s.name: list(s.captions) for s in samples} for split, samples in data.splits.items()}


TWO = {"all": {"a.jpg": ["one", "two"], "b.jpg": ["three"]}}
JSON_LINES = '{"file_name": "a.jpg", "captions": ["one", "two"]}\n\n{"image": "b.jpg", "text": "three"}\n'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.jsonl", JSON_LINES),
        ("x.ndjson", "\ufeff" + JSON_LINES.replace("\n", "\r\n")),
        ("x.json", JSON_LINES),
        ("x.json", [{"image": "a.jpg", "caption": ["one", "two"]}, {"path": "b.jpg", "caption": "three", "id": 7}]),
        (
            "x.jsonl",
            '{"file": "a.jpg", "text": "one"}\n{"file": "b.jpg", "text": "three"}\n{"file": "a.jpg", "text": "two"}',
        ),
        ("metadata.csv", "file_name,text\na.jpg,one\nb.jpg,three\na.jpg,two\n"),
        ("x.csv", "caption_1,id,caption_2,image\none,1,two,a.jpg\nthree,2,,b.jpg\n"),
        ("x.csv", "\ufeffImage;Caption\r\na.jpg;one\r\na.jpg;two\r\nb.jpg;three\r\n"),
        ("captions.txt", "image,caption\na.jpg,one\na.jpg,two\nb.jpg,three\n"),
        ("results.csv", "image_name| comment_number| comment\na.jpg| 0| one\na.jpg| 1| two\nb.jpg| 0| three\n"),
        ("x.tsv", 'filepath\tcaption\na.jpg\t"one"\na.jpg\ttwo\nb.jpg\tthree\n'),
        ("Flickr8k.token.txt", "a.jpg#0\tone\na.jpg#1\ttwo\nb.jpg#0\tthree\n"),
        ("results_20130124.token", "a.jpg#0\tone\nb.jpg#0\tthree\na.jpg#1\ttwo"),
        ("plain.tsv", "a.jpg\tone\na.jpg\ttwo\nb.jpg\tthree\n"),
        (
            "captions.json",
            {
                "images": [{"id": 2, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}],
                "annotations": [
                    {"id": 5, "image_id": 2, "caption": "one"},
                    {"id": 6, "image_id": 1, "caption": "three"},
                    {"id": 7, "image_id": 2, "caption": "two"},
                ],
            },
        ),
    ],
)
def test_forms(name: str, text: Any, write: Write) -> None:
    path = write(name, text)
    for data in (read_splits(path), read_splits(str(path.parent))):
        assert content(data) == TWO
        assert data.problems == ()


def test_karpathy_knows_splits_and_restval_is_train(write: Write) -> None:
    def image(folder: str, name: str, split: str) -> dict[str, Any]:
        sentences = [{"raw": f"{name} one", "tokens": []}, {"raw": f"{name} two"}]
        return {"filepath": folder, "filename": name, "split": split, "sentences": sentences}

    images = [image("train2014", "1.jpg", "train"), image("val2014", "2.jpg", "restval")]
    images += [image("val2014", "3.jpg", "val"), image("val2014", "4.jpg", "test")]
    path = write(
        "dataset_coco.json", {"images": images, "dataset": "coco"}, "val2014/2.jpg val2014/3.jpg val2014/4.jpg"
    )
    write("notes.md", "", "train2014/1.jpg")
    data = read_splits(path)
    assert {split: list(names) for split, names in content(data).items()} == {
        "train": ["train2014/1.jpg", "val2014/2.jpg"],
        "dev": ["val2014/3.jpg"],
        "test": ["val2014/4.jpg"],
    }
    assert data.splits["dev"][0].captions == ("3.jpg one", "3.jpg two")
    images[0]["split"] = "practice"
    with pytest.raises(DataError, match=r"images\[0\] has the unknown split 'practice'"):
        read_splits(write("dataset_coco.json", {"images": images}))


def test_flickr8k_split_lists(write: Write) -> None:
    folder = "Flickr8k_text/"
    write(folder + "Flickr8k.token.txt", "".join(f"{name}.jpg#{n}\t{name}{n}\n" for name in "abcd" for n in (0, 1)), "")
    write(folder + "Flickr8k.lemma.token.txt", "a.jpg#0\tlemma\n", "")
    write(folder + "ExpertAnnotations.txt", "a.jpg\tb.jpg#2\t1\t1\t1\n", "")
    write(folder + "CrowdFlowerAnnotations.txt", "a.jpg\tb.jpg#2\t1.0\t3\t0\n", "")
    for split, name in (("train", "a"), ("dev", "b"), ("test", "c")):
        write(f"{folder}Flickr_8k.{split}Images.txt", f"{name}.jpg\n", "")
    root = write("readme.txt", "no captions", " ".join(f"Flicker8k_Dataset/{name}.jpg" for name in "abcd")).parent
    expected = {"train": {"a.jpg": ["a0", "a1"]}, "dev": {"b.jpg": ["b0", "b1"]}, "test": {"c.jpg": ["c0", "c1"]}}
    for data in (read_splits(root), read_splits(root / folder), read_splits(root / folder / "Flickr8k.token.txt")):
        assert content(data) == expected
        (problem,) = data.problems
        assert problem == "1 image is in no split and was left out"


def test_split_column(write: Write) -> None:
    text = "image,caption,split\na.jpg,one,train\nb.jpg,two,val\n"
    assert content(read_splits(write("x.csv", text))) == {"train": {"a.jpg": ["one"]}, "dev": {"b.jpg": ["two"]}}
    for missing in ("nan", " ", "NULL"):
        assert content(read_splits(write("x.csv", text.replace("train", missing).replace("val", "")))) == {
            "all": {"a.jpg": ["one"], "b.jpg": ["two"]}
        }
    with pytest.raises(DataError, match=r"x.csv:3 has the unknown split 'vla'"):
        read_splits(write("x.csv", text.replace("val", "vla")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('image,caption\na.jpg,"a dog, a ""good"" one"\n', 'a dog, a "good" one'),
        ("image,caption\na.jpg,a dog, a cat, a bird\n", "a dog, a cat, a bird"),
        ('image,caption\na.jpg,"a dog\nin two lines"\n', "a dog in two lines"),
        ('image, caption\na.jpg, "one, two"\n', "one, two"),
        ('image|caption\na.jpg|"Stop" says the sign\n', '"Stop" says the sign'),
        ('image\tcaption\na.jpg\t"begins with a mark\n', '"begins with a mark'),
        ('image\tcaption\na.jpg\t"says ""stop"" loudly"\n', 'says "stop" loudly'),
        ("image,caption\na.jpg,  cafe\u0301 \u3000 \U0001f600\u2028犬 \n", "cafe\u0301 \U0001f600 犬"),
        ("image,caption,,\na.jpg,one,,\n", "one"),
    ],
)
def test_cells_as_they_lie_about(text: str, expected: str, write: Write) -> None:
    assert content(read_splits(write("x.csv", text))) == {"all": {"a.jpg": [expected]}}


def test_half_surrogates_cannot_reach_the_tokenizer(write: Write) -> None:
    path = write("x.jsonl", '{"image": "a.jpg", "text": ["bad \\ud800 half", "whole \\ud83d\\ude00"]}')
    assert content(read_splits(path)) == {"all": {"a.jpg": ["bad \ufffd half", "whole \U0001f600"]}}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.jsonl", '{"image": "a.jpg", "text": "one"}\n{"image": "b.jpg", ', r"x.jsonl:2 is not valid JSON"),
        ("x.jsonl", '{"image": "a.jpg", "text": "one"}\n[1]\n', r"x.jsonl:2 is not a JSON object"),
        ("x.jsonl", "[" * 100_000, r"x.jsonl:1 is not valid JSON \(RecursionError\)"),
        ("x.jsonl", '{"picture": "a.jpg", "text": "one"}', r"x.jsonl:1 names no image .* it has picture, text"),
        ("x.jsonl", '{"image": "a.jpg", "label": "one"}', r"x.jsonl has no captions .* it has image, label"),
        ("x.jsonl", '{"image": [7], "text": "one"}', r"x.jsonl:1: image must be the name of an image file, not \[7\]"),
        ("x.jsonl", '{"image": "", "text": "one"}', r"x.jsonl:1: image must be the name"),
        (
            "x.jsonl",
            '{"image": "a.jpg", "text": ["one", 2]}',
            r"x.jsonl:1: text must be text or a list of texts, not 2",
        ),
        ("x.jsonl", " \n\n", r"x.jsonl is empty"),
        ("x.jsonl", b'{"image": "a.jpg",\n "text": "\xe9"}', r"x.jsonl:2 is not UTF-8"),
        ("x.json", "", r"x.json is empty"),
        ("x.json", "{", r"x.json is not valid JSON"),
        ("x.json", "[]", r"x.json is empty"),
        ("x.json", "7", r"x.json is not a JSON object"),
        ("x.json", {"images": [], "annotations": []}, r"x.json is empty"),
        ("x.json", {"images": [{"id": 1}], "annotations": []}, r"images\[0\] has no usable 'file_name'"),
        ("x.json", {"images": 3, "annotations": []}, r"no list of objects under 'images'"),
        ("x.json", {"images": [], "annotations": [{"bbox": []}]}, r"COCO annotations without captions"),
        ("x.json", {"images": [{"filename": "a.jpg", "sentences": ["one"]}]}, r"images\[0\] has a sentence without"),
        ("x.json", {"images": [{"sentences": []}]}, r"images\[0\] has no usable 'filename'"),
        ("x.csv", "", r"x.csv is empty"),
        ("x.csv", "image,caption\n", r"x.csv is empty"),
        ("x.csv", "picture,label\na.jpg,one", r"x.csv lacks a column .* its header is: picture,label"),
        ("x.csv", "image,caption\n,one\n", r"x.csv:2 names no image"),
        (
            "x.csv",
            "caption,image\none,a.jpg\none, two,b.jpg",
            r"x.csv:3 has 3 cells for 2 columns; put the",
        ),
        ("x.csv", 'image,caption\na.jpg,"one\nb.jpg,two\n', r"x.csv:2 opens a quotation that includes"),
        ("x.csv", 'image,caption\na.jpg,"' + "one " * 50_000, r"x.csv: after line 1: field larger than field limit"),
        ("x.csv", b"\xff,caption\n", r"x.csv:1 is not UTF-8 text"),
        ("x.txt", "a.jpg#0\tone\nb.jpg two\n", r"x.txt:2 is not name.jpg#0<TAB>caption"),
        ("x.xlsx", b"PK", r"x.xlsx has an unknown format; name one of .jsonl"),
        ("a.jpg", b"", r"a.jpg has an unknown format"),
    ],
)
def test_damaged_files_are_refused_by_place(name: str, text: Any, message: str, write: Write) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_splits(write(name, text))
    assert "\n" not in str(caught.value)


def test_a_few_damaged_rows_are_left_out_and_told(write: Write) -> None:
    text = (
        "".join(f"{name}.jpg| {n}| a dog\n" for name in "abcde" for n in (0, 1))
        + "a.jpg| 4   no bar here\nf.jpg| 0| \n"
    )
    path = write("results.csv", "image_name| comment_number| comment\n" + text, "a.jpg b.jpg c.jpg d.jpg f.jpg")
    data = read_splits(path)
    assert [sample.name for sample in data.splits["all"]] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert [problem.partition(": ")[2] for problem in data.problems] == [
        "2 empty captions were ignored",
        "1 of 6 images is missing and was left out: e.jpg",
        "1 of 6 images has no caption and was left out: f.jpg",
    ]


def test_mostly_missing_is_refused_with_where_it_looked(write: Write) -> None:
    path = write("x.csv", "image,caption\n" + "".join(f"{name}.jpg,one\n" for name in "abcdef"), "images/a.jpg b.jpg")
    with pytest.raises(DataError, match=r"4 of 6 images are missing .*: c.jpg, d.jpg, e.jpg, .*looked .*images$"):
        read_splits(path)
    path = write("x.csv", "image,caption\na.jpg,\nb.jpg, \n")
    with pytest.raises(DataError, match=r"2 of 2 images have no caption .*add captions"):
        read_splits(path)
    path = write("x.csv", "image,caption\na.jpg,\ngone.jpg,one\n")
    with pytest.raises(DataError, match="too many to continue"):
        read_splits(path)


def test_coco_annotation_of_an_unknown_image_is_a_missing_image(write: Write) -> None:
    annotations = [{"image_id": number, "caption": "one"} for number in (1, 2, 99)]
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]
    data = read_splits(write("x.json", {"images": images, "annotations": annotations}))
    assert len(data.splits["all"]) == 2
    assert "1 of 3 images is missing and was left out: image id 99" in data.problems[0]
