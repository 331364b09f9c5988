"""Existing captions: the file formats, and everything that would change a score silently."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from captioner.data.samples import Sample
from captioner.errors import DataError
from captioner.evaluation.predictions import matched_captions, read_predictions


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("results.json", '[{"image_id": 40, "caption": "a dog, running"}, {"image_id": 41, "caption": "孩子"}]'),
        (
            "said.jsonl",
            '{"path": "40", "caption": "a dog, running", "score": -1.5}\n\n{"path": "41", "caption": "孩子"}\n',
        ),
        ("said.ndjson", '{"file_name": "40", "captions": ["a dog, running"]}\n{"file_name": "41", "text": "孩子"}'),
        ("said.csv", 'Image,Caption\n40,"a dog, running"\n41,孩子\n'),
        ("said.tsv", "image_id\tcaption\n40\ta dog, running\n41\t孩子\n"),
        ("said.csv", "image,caption\n40,a dog, running\n41,孩子\n"),
        ("said.csv", '\nimage, caption\n40, "a dog, running"\n41, 孩子\n'),
        ("said.csv", "image;split;caption\n40;fold 1;a dog, running\n41;fold 2;孩子\n"),
        ("said.csv", "id,image,caption\n41,40,a dog, running\n40,41,孩子\n"),
        (
            "said.json",
            '[{"id": 41, "file_name": "40", "caption": "a dog, running"},'
            ' {"image_id": 41, "file_name": null, "caption": "孩子"}]',
        ),
    ],
)
def test_forms(tmp_path: Path, name: str, text: str) -> None:
    assert read_predictions(write(tmp_path, name, text)) == [("40", "a dog, running"), ("41", "孩子")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.txt", "a", r"x\.txt is not a file of predictions; give one of \.json"),
        ("x.json", "[]", r"x\.json holds no predictions"),
        ("x.json", "7", "must hold a list of predictions"),
        ("x.json", "[7]", r"\[0\] is not an object with an image and a caption"),
        ("x.jsonl", '{"caption": "a"}', r"x\.jsonl:1 lacks an image \(file_name"),
        ("x.jsonl", '{"path": "a.jpg"}', r"x\.jsonl:1 lacks a caption \(generated_text"),
        ("x.jsonl", '{"path": "a.jpg", "error": "it is empty"}', r"a\.jpg has an error instead of a caption"),
        ("x.jsonl", '{"path": "a.jpg", "caption": 3}', "must have one text as caption"),
        ("x.jsonl", '{"path": "a.jpg", "captions": ["a", "b"]}', "must have one text as captions"),
        ("x.jsonl", "{", r"x\.jsonl:1 is not valid JSON"),
        ("x.csv", "image,colour\n1,red\n", r"x\.csv lacks a column for the image .* or one for the caption"),
        ("x.csv", "image,caption,score\n1,a dog, brown,7\n", r"x\.csv:2 has 4 cells for 3 columns; put the caption in"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_predictions(write(tmp_path, name, text))


@pytest.mark.parametrize(
    ("name", "text", "caption"),
    [("x.csv", '40,"a dog\nruns"', "a dog\nruns"), ("x.tsv", '40\t"a dog" runs', '"a dog" runs')],
)
def test_line_ends_and_quotation_marks_stay(tmp_path: Path, name: str, text: str, caption: str) -> None:
    header = "image\tcaption" if name == "x.tsv" else "image,caption"
    assert read_predictions(write(tmp_path, name, f"{header}\n{text}\n")) == [("40", caption)]


@pytest.mark.parametrize(
    "names",
    [
        ["40", "41", "42", "43"],
        ["photos/0.jpg", "photos/1.jpg", "photos/2.jpg", "photos/3.jpg"],
        ["/data/photos/0.jpg", "/data/photos/1.jpg", "/data/photos/2.jpg", "/data/photos/3.jpg"],
        ["elsewhere/0.jpg", "C:\\elsewhere\\1.jpg", "2", "3.png"],
    ],
)
def test_images_by_all_that_they_are_called(samples: list[Sample], names: list[str]) -> None:
    predictions = [(name, f"caption {place}") for place, name in enumerate(names)]
    found = matched_captions(predictions[::-1], samples)
    assert found == ["caption 0", "caption 1", "caption 2", "caption 3"]


def test_the_annotations_id_goes_before_a_name_of_the_same_digits(samples: list[Sample]) -> None:
    crossed = [replace(samples[0], id="1"), replace(samples[1], id="0")]
    assert matched_captions([("0", "of 1.jpg"), ("1", "of 0.jpg")], crossed) == ["of 0.jpg", "of 1.jpg"]


def test_all_that_is_wrong_is_told_with_its_names(samples: list[Sample]) -> None:
    predictions = [("40", "a"), ("40", "b"), ("41", " "), ("99", "c"), ("43", "d")]
    with pytest.raises(DataError) as error:
        matched_captions(predictions, samples[:3], samples[3:])
    assert str(error.value) == (
        "the predictions cannot be evaluated: "
        "1 prediction is of images in another split; choose it with --split, or leave them out: 43; "
        "1 prediction is of images that are not in the data: 99; "
        "1 image has no prediction: photos/2.jpg; "
        "1 image has more than one prediction: photos/0.jpg; "
        "1 prediction is empty: photos/1.jpg"
    )


def test_a_name_of_several_images_is_refused(samples: list[Sample]) -> None:
    twins = [replace(samples[0], name="a/1.jpg", id=""), replace(samples[1], name="b/1.jpg", id="")]
    with pytest.raises(DataError, match=r"1 prediction names several images each; write their folders too: 1\.jpg"):
        matched_captions([("1.jpg", "x"), ("b/1.jpg", "y")], twins)


def test_ids_come_from_the_annotations(tmp_path: Path) -> None:
    from captioner.data.sources import read_splits

    (tmp_path / "b.jpg").touch()
    (tmp_path / "a.jpg").touch()
    images = [{"id": 7, "file_name": "b.jpg"}, {"id": 9, "file_name": "a.jpg"}]
    notes = [{"image_id": 9, "caption": "of a"}, {"image_id": 7, "caption": "of b"}]
    path = write(tmp_path, "captions_val2014.json", json.dumps({"images": images, "annotations": notes}))
    found = read_splits(path).split("dev")
    assert {sample.id: sample.captions for sample in found} == {"7": ("of b",), "9": ("of a",)}
    assert matched_captions([("9", "x"), ("7", "y")], found) == ["y", "x"]


def test_ids_that_pandas_made_numbers_of(tmp_path: Path, samples: list[Sample]) -> None:
    text = "image_id,generated_text,caption\n40.0,a dog,the reference\n41.0,a cat,the reference\n"
    assert matched_captions(read_predictions(write(tmp_path, "x.csv", text)), samples[:2]) == ["a dog", "a cat"]
    text = '[{"image_id": 40.0, "caption": "a dog"}, {"image_id": 41, "caption": "a cat"}]'
    assert matched_captions(read_predictions(write(tmp_path, "x.json", text)), samples[:2]) == ["a dog", "a cat"]


def test_a_missing_value_is_no_caption(tmp_path: Path, samples: list[Sample]) -> None:
    found = read_predictions(write(tmp_path, "x.csv", "image_id,caption\n40,a dog\n41,nan\n"))
    with pytest.raises(DataError, match=r"1 prediction is empty: photos/1\.jpg"):
        matched_captions(found, samples[:2])


def test_a_part_of_the_images(samples: list[Sample]) -> None:
    assert matched_captions([("41", "a cat")], samples, partial=True) == [None, "a cat", None, None]
    with pytest.raises(DataError, match=r"1 prediction is of images .*; 4 images have no prediction"):
        matched_captions([("no", "a cat")], samples, partial=True)
