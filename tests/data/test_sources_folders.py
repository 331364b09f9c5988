"""The contents of a dataset folder: splits, annotation folders, sidecars; and the shared data if it exists."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from captioner.data.sources import load_split, read_splits
from captioner.data.sources import rows as rows_module
from captioner.data.sources.rows import ImageFinder
from captioner.data.splits import Dataset, hold_out
from captioner.errors import DataError


def put(root: Path, *names: str, text: str = "") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def lines(*names: str) -> str:
    return "".join(json.dumps({"file_name": name, "text": f"a {name}"}) + "\n" for name in names)


def names(data: Dataset) -> dict[str, list[str]]:
    assert all(sample.path.is_file() for samples in data.splits.values() for sample in samples)
    return {split: [sample.name for sample in samples] for split, samples in data.splits.items()}


@pytest.mark.parametrize("word", ["dev", "val", "valid", "validation", "Val"])
def test_files_named_after_splits(word: str, tmp_path: Path) -> None:
    put(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    put(tmp_path, f"{word}.jsonl", text=lines("2.jpg"))
    put(tmp_path, "my_test-captions.csv", text="image,caption\n3.jpg,c\n")
    put(tmp_path, "train.jsonl", text=lines("1.jpg"))
    put(tmp_path, "train_and_test.json", "config.json", "notes.txt", text="{}")
    data = read_splits(tmp_path)
    assert names(data) == {"train": ["1.jpg"], "dev": ["2.jpg"], "test": ["3.jpg"]}
    assert list(data.splits) == ["train", "dev", "test"]
    assert [sample.name for sample in load_split(tmp_path, "validation")] == ["2.jpg"]
    assert names(read_splits(tmp_path / f"{word}.jsonl")) == {"dev": ["2.jpg"]}


def test_shards_are_joined_and_two_forms_of_a_split_refused(tmp_path: Path) -> None:
    put(tmp_path, "1.jpg", "2.jpg")
    put(tmp_path, "train-00000-of-00002.jsonl", text=lines("1.jpg", "2.jpg"))
    put(tmp_path, "train-00001-of-00002.jsonl", text=lines("2.jpg"))
    data = read_splits(tmp_path)
    assert names(data) == {"train": ["1.jpg", "2.jpg"]}
    assert data.splits["train"][1].captions == ("a 2.jpg", "a 2.jpg")
    put(tmp_path, "train.csv", text="image,caption\n1.jpg,c\n")
    with pytest.raises(DataError, match=r"both .* contain train; name or keep one"):
        read_splits(tmp_path)


def test_coco_folder(tmp_path: Path) -> None:
    for split, number in (("train2014", 9), ("val2014", 42)):
        name = f"COCO_{split}_{number:012}.jpg"
        put(tmp_path, f"{split}/{name}")
        images = [{"id": number, "file_name": name}]
        captions = {"images": images, "annotations": [{"image_id": number, "caption": "one"}]}
        put(tmp_path, f"annotations/captions_{split}.json", text=json.dumps(captions))
        put(tmp_path, f"annotations/instances_{split}.json", text="not read: { is not JSON")
    expected = {"train": ["COCO_train2014_000000000009.jpg"], "dev": ["COCO_val2014_000000000042.jpg"]}
    assert names(read_splits(tmp_path)) == names(read_splits(tmp_path / "annotations")) == expected


def test_imagefolder_with_sub_folders_as_splits(tmp_path: Path) -> None:
    for split, name in (("train", "1.jpg"), ("validation", "1.jpg"), ("test", "3.jpg")):
        put(tmp_path, f"{split}/{name}")
        if split != "test":
            put(tmp_path, f"{split}/metadata.jsonl", text=lines(name))
    data = read_splits(tmp_path)
    assert names(data) == {"train": ["1.jpg"], "dev": ["1.jpg"]}
    assert data.splits["train"][0].path != data.splits["dev"][0].path
    (problem,) = data.problems
    assert problem.endswith("test contains 1 image but no caption file beside it; it was left out")


def test_one_metadata_file_over_folders_named_after_splits(tmp_path: Path) -> None:
    put(tmp_path, "train/1.jpg", "val/2.jpg")
    put(tmp_path, "metadata.jsonl", text=lines("train/1.jpg", "val/2.jpg"))
    assert names(read_splits(tmp_path)) == {"train": ["train/1.jpg"], "dev": ["val/2.jpg"]}
    put(tmp_path, "other/3.jpg")
    put(tmp_path, "metadata.jsonl", text=lines("train/1.jpg", "val/2.jpg", "other/3.jpg"))
    assert names(read_splits(tmp_path)) == {"all": ["train/1.jpg", "val/2.jpg", "other/3.jpg"]}


def test_sidecars(tmp_path: Path) -> None:
    put(tmp_path, "dog.jpg", "cat.PNG", "sub/10.webp", "sub/2.webp", "rotated.jpg", ".hidden/x.jpg", "readme.md")
    put(tmp_path, "dog.txt", text="a dog\n\n  a brown   dog \r\n")
    put(tmp_path, "cat.caption", text="\ufeffa cat")
    put(tmp_path, "cat.txt", text="tag, tag, tag")
    put(tmp_path, "sub/10.txt", "sub/2.txt", "rotated.jpg.txt", text="a thing")
    put(tmp_path, "rotated.txt", text="of whatever has this name and a suffix")
    put(tmp_path, "LICENSE.txt", "cat.json", text="{}")
    put(tmp_path, "review.jsonl", text='{"path": "dog.jpg", "caption": "a doubtful dog"}')
    (tmp_path / "sub/loop").symlink_to(tmp_path)
    data = read_splits(tmp_path)
    captions = {sample.name: sample.captions for sample in data.splits["all"]}
    assert captions == {
        "cat.PNG": ("a cat",),
        "dog.jpg": ("a dog", "a brown dog"),
        "rotated.jpg": ("a thing",),
        "sub/2.webp": ("a thing",),
        "sub/10.webp": ("a thing",),
    }
    assert list(captions) == ["cat.PNG", "dog.jpg", "rotated.jpg", "sub/2.webp", "sub/10.webp"]
    assert data.problems == ()


def test_sidecars_in_folders_named_after_splits(tmp_path: Path) -> None:
    put(tmp_path, "train/1.jpg", "dev/2.jpg")
    put(tmp_path, "train/1.txt", "dev/2.txt", text="one")
    assert {split: len(group) for split, group in read_splits(tmp_path).splits.items()} == {"train": 1, "dev": 1}


def test_images_with_a_bad_or_empty_sidecar_are_told(tmp_path: Path) -> None:
    for number in range(5):
        put(tmp_path, f"{number}.jpg")
        put(tmp_path, f"{number}.txt", text="one" if number else " \n")
    (tmp_path / "1.txt").write_bytes(b"caf\xe9")
    data = read_splits(tmp_path)
    assert names(data) == {"all": ["2.jpg", "3.jpg", "4.jpg"]}
    unread, bare = data.problems
    assert "1 caption file cannot be read" in unread
    assert "1.txt:1 is not UTF-8" in unread
    assert bare.endswith("2 of 5 images have no caption and were left out: 0.jpg, 1.jpg")
    (tmp_path / "2.txt").unlink()
    with pytest.raises(DataError, match=r"3 of 5 images have no caption .*: add captions"):
        read_splits(tmp_path)


def test_several_caption_files_are_not_guessed_among(tmp_path: Path) -> None:
    put(tmp_path, "1.jpg")
    put(tmp_path, "one.jsonl", "two.jsonl", text=lines("1.jpg"))
    with pytest.raises(DataError, match=r"several files contain captions: .*one.jsonl, .*two.jsonl; name the one"):
        read_splits(tmp_path)
    put(tmp_path, "metadata.jsonl", text=lines("1.jpg"))
    assert names(read_splits(tmp_path)) == {"all": ["1.jpg"]}


def test_damaged_files_beside_captions(tmp_path: Path) -> None:
    put(tmp_path, "1.jpg")
    put(tmp_path, "other.json", text="{ broken")
    with pytest.raises(DataError, match=r"other.json is not valid JSON"):
        read_splits(tmp_path)
    put(tmp_path, "1.txt", text="one")
    assert names(read_splits(tmp_path)) == {"all": ["1.jpg"]}
    put(tmp_path, "metadata.jsonl", text="{ broken")
    with pytest.raises(DataError, match=r"metadata.jsonl:1 is not valid JSON"):
        read_splits(tmp_path)


def test_folders_without_captions(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"contains no images; looked for train.jsonl .*metadata.jsonl.*\.caption or \.txt"
    ):
        read_splits(tmp_path)
    put(tmp_path, "1.jpg", "sub/2.jpg")
    with pytest.raises(DataError, match=r"contains 2 images but no caption file beside them; looked for"):
        read_splits(tmp_path)
    with pytest.raises(DataError, match=r"gone does not exist; name a folder"):
        read_splits(tmp_path / "gone")
    with pytest.raises(DataError, match=r"is neither a file nor a folder"):
        read_splits(os.devnull)
    with pytest.raises(DataError):
        read_splits("a\0b")


def test_forbidden_folders(tmp_path: Path) -> None:
    put(tmp_path, "train.jsonl", text=lines("images/1.jpg"))
    put(tmp_path, "images/1.jpg")
    (tmp_path / "images").chmod(0)
    try:
        if os.access(tmp_path / "images", os.R_OK):
            pytest.skip("this user may read everything")
        with pytest.raises(DataError, match=r"images cannot be listed: permission denied"):
            read_splits(tmp_path)
        with pytest.raises(DataError, match=r"images cannot be read: permission denied"):
            read_splits(tmp_path / "images")
    finally:
        (tmp_path / "images").chmod(0o700)


def test_the_same_image_in_two_splits_is_told(tmp_path: Path) -> None:
    put(tmp_path, "1.jpg", "2.jpg")
    put(tmp_path, "train.jsonl", text=lines("1.jpg", "./2.jpg"))
    put(tmp_path, "dev.jsonl", text=lines("2.jpg"))
    (problem,) = read_splits(tmp_path).problems
    assert problem.startswith("leakage: 1 image is in more than one split")
    assert "2.jpg" in problem


def test_load_split_of_unnamed_data_is_hold_out(tmp_path: Path) -> None:
    many = [f"{number}.jpg" for number in range(50)]
    put(tmp_path, *many)
    put(tmp_path, "metadata.jsonl", text=lines(*many))
    data = read_splits(tmp_path)
    kept, held_out = hold_out(data.splits["all"])
    assert (load_split(tmp_path, "train"), load_split(data, "dev")) == (kept, held_out)
    assert len(load_split(data, "all")) == 50
    with pytest.raises(DataError, match="no split 'test'"):
        load_split(tmp_path, "test")


@pytest.mark.parametrize(
    "name", ["images/../images/1.jpg", "./images/1.jpg", "images\\1.jpg", "1.jpg", "{root}/images/1.jpg"]
)
def test_spellings_of_one_image_are_one_sample(name: str, tmp_path: Path) -> None:
    put(tmp_path, "images/1.jpg")
    put(tmp_path, "x.jsonl", text=lines("images/1.jpg", name.format(root=tmp_path)))
    (sample,) = read_splits(tmp_path).splits["all"]
    assert sample.name == "images/1.jpg"
    assert len(sample.captions) == 2


@pytest.mark.parametrize("name", ["images", ".", "a\0b.jpg", "x" * 5000, "1.jpg/2.jpg", "\udcff.jpg"])
def test_names_of_no_file_are_missing(name: str, tmp_path: Path) -> None:
    put(tmp_path, "images/1.jpg", "1.jpg")
    (tmp_path / "circle").symlink_to("circle")
    assert ImageFinder(tmp_path).find("1.jpg") == tmp_path / "1.jpg"
    assert ImageFinder(tmp_path).find(name) is None


def test_folders_are_listed_once_and_files_never_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [f"images/{number}.jpg" for number in range(200)]
    put(tmp_path, *many)
    finder = ImageFinder(tmp_path)
    calls: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(rows_module.os, "scandir", lambda folder: calls.append(folder) or scandir(folder))
    for asked in ("stat", "lstat", "access"):
        monkeypatch.setattr(rows_module.os, asked, lambda *_: pytest.fail("asked for a single file"))
    assert all(finder.find(name) for name in many)
    assert calls == [str(tmp_path / "images")]


SHARED = Path(os.environ.get("CAPTIONER_DATA", Path(__file__).parents[2].parent / "shared"))


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("flickr8k", {"train": 6091, "dev": 1000}),
        ("coco", {"train": 2210, "dev": 179}),
        ("written", {"train": 7217, "dev": 92}),
    ],
)
def test_shared_data(name: str, sizes: dict[str, int]) -> None:
    if not (SHARED / name / "train.jsonl").is_file():
        pytest.skip("the shared data is not here; set CAPTIONER_DATA")
    data = read_splits(SHARED / name)
    assert data.problems == ()
    assert {split: len(group) for split, group in data.splits.items()} == sizes
    with (SHARED / name / "train.jsonl").open(encoding="utf-8") as file:
        for line, sample in zip(file, data.splits["train"], strict=True):
            record = json.loads(line)
            assert sample.name == record["file_name"]
            assert sample.captions == tuple(" ".join(caption.split()) for caption in record["captions"])


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../other/1.jpg", "images/../../other/1.jpg", "..\\other\\1.jpg", "..", "/"]
)
@pytest.mark.parametrize(
    "form", ["x.jsonl", "x.json", "x.csv", "x.tsv", "x.token", "captions_train.json", "karpathy.json"]
)
def test_a_row_that_leaves_the_folder_is_refused(
    name: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    put(data, "images/1.jpg")
    put(tmp_path, "other/1.jpg")
    names = ["images/1.jpg", name]
    texts = {
        "x.jsonl": lines(*names),
        "x.json": json.dumps([{"image": one, "caption": "a dog"} for one in names]),
        "x.csv": "".join(f"{one},a dog\n" for one in ("image", *names)),
        "x.tsv": "image\tcaption\n" + "".join(f"{one}\ta dog\n" for one in names),
        "x.token": "".join(f"{one}#0\ta dog\n" for one in names),
        "captions_train.json": json.dumps(
            {
                "images": [{"id": n, "file_name": one} for n, one in enumerate(names)],
                "annotations": [{"image_id": n, "caption": "a dog"} for n in range(2)],
            }
        ),
        "karpathy.json": json.dumps(
            {"images": [{"filename": one, "sentences": [{"raw": "a dog"}], "split": "train"} for one in names]}
        ),
    }
    text = texts[form].replace("image,a dog", "image,caption")
    put(data, form, text=text)
    scandir = os.scandir

    def watched(folder: str = ".") -> Any:
        assert os.path.abspath(folder).startswith(str(data)), "another folder is not even listed"
        return scandir(folder)

    monkeypatch.setattr(rows_module.os, "scandir", watched)
    for named in (data, data / form):
        with pytest.raises(DataError, match=r"names .*, which is outside .*/data; move the image there") as refusal:
            read_splits(named)
        assert f"{form}:" in str(refusal.value)
        assert "--outside (outside=True in Python)" in str(refusal.value)
    monkeypatch.undo()
    found = [sample for samples in read_splits(data, outside=True).splits.values() for sample in samples]
    assert len(found) == (1 if name in ("..", "/") else 2)


def test_the_folder_that_is_named_is_the_folder(tmp_path: Path) -> None:
    """A table in the folder of its split may name images beside that folder if the user names both."""
    put(tmp_path, "images/1.jpg")
    put(tmp_path, "train/metadata.jsonl", text=lines("../images/1.jpg"))
    assert len(load_split(tmp_path, "train")) == 1
    with pytest.raises(DataError, match=r"metadata.jsonl:1 names ../images/1.jpg, which is outside"):
        read_splits(tmp_path / "train")
    assert len(load_split(tmp_path / "train", "all", outside=True)) == 1
