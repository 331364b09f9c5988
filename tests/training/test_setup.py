"""The training and validation data of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from captioner.data.sources import load_split
from captioner.errors import ConfigError, DataError
from captioner.training.recipe import Recipe
from captioner.training.setup import new_captioner, read_data
from captioner.training.tasks import Data

MakeRecipe = Callable[..., Recipe]


def dataset(folder: Path, splits: dict[str, Iterable[int]]) -> Path:
    """Write caption files of these names with images that no test opens."""
    folder.mkdir(exist_ok=True)
    for split, numbers in splits.items():
        rows = []
        for number in numbers:
            (folder / f"{number}.jpg").touch()
            rows.append(json.dumps({"file_name": f"{number}.jpg", "captions": [f"Photo {number}.", "a photo"]}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(rows), encoding="utf-8")
    return folder


def read(*folders: Path, **options: Any) -> Data:
    return read_data([str(folder) for folder in folders], **{"validation_images": 50, "report": print, **options})


def names(samples: Iterable[Any]) -> set[str]:
    return {sample.name for sample in samples}


def test_dev_and_test_take_no_part(tmp_path: Path) -> None:
    found = read(dataset(tmp_path, {"train": range(40), "dev": range(40, 50), "test": range(50, 60)}))
    assert names(found.train) | names(found.validation) == {f"{n}.jpg" for n in range(40)}
    assert not names(found.train) & names(found.validation)
    assert found.validation


def test_images_outside_the_data_are_asked_for(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "images", {"metadata": range(40)})
    (tmp_path / "texts").mkdir()
    rows = (folder / "metadata.jsonl").read_text().replace('{"file_name": "', '{"file_name": "../images/')
    (tmp_path / "texts" / "metadata.jsonl").write_text(rows)
    with pytest.raises(DataError, match=r"metadata.jsonl:1 names ../images/0.jpg, which is outside .*--outside"):
        read(tmp_path / "texts")
    found = read(tmp_path / "texts", outside=True)
    assert len(names(found.train) | names(found.validation)) == 40


def test_without_splits_the_held_out_tenth_is_what_evaluate_calls_dev(tmp_path: Path) -> None:
    folder = dataset(tmp_path, {"metadata": range(40)})
    found = read(folder)
    assert names(found.validation) == names(load_split(folder, "dev"))
    assert names(found.train) == names(load_split(folder, "train"))


def test_further_data_keep_their_dev_images_out_too(tmp_path: Path) -> None:
    one, two = dataset(tmp_path / "one", {"train": range(40)}), dataset(tmp_path / "two", {"metadata": range(100, 140)})
    assert not names(read(one, two).train) & names(load_split(two, "dev"))


def test_an_image_that_is_held_out_is_in_no_other_data(tmp_path: Path) -> None:
    folder = dataset(tmp_path, {"train": range(40)})
    found = read(folder, folder)
    assert not names(found.train) & names(found.validation)


def test_a_file_names_the_held_out_images_and_only_some_are_judged(tmp_path: Path) -> None:
    (tmp_path / "held.txt").write_text("3.jpg\n5.jpg\n7.jpg\n")
    folder = dataset(tmp_path / "data", {"train": range(10)})
    found = read(folder, held_out=str(tmp_path / "held.txt"), validation_images=2)
    assert [sample.name for sample in found.validation] == ["3.jpg", "5.jpg"]
    assert len(found.train) == 7


def test_an_image_of_several_datasets_has_the_captions_of_all(tmp_path: Path) -> None:
    one = dataset(tmp_path / "one", {"train": range(10)})
    lines = [{"file_name": f"../one/{n}.jpg", "captions": [f"照片 {n}"]} for n in range(10)]
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "held.txt").write_text("3.jpg\n")
    found = read(one, tmp_path / "two", held_out=str(tmp_path / "held.txt"), outside=True)
    samples = {sample.name: sample for sample in (*found.train, *found.validation)}
    assert len(found.train) == 9
    assert all(samples[f"{n}.jpg"].captions == (f"Photo {n}.", "a photo", f"照片 {n}") for n in range(10))


def test_repeats_belong_to_the_first_dataset_of_an_image(tmp_path: Path) -> None:
    one, two = dataset(tmp_path / "one", {"train": range(5)}), dataset(tmp_path / "two", {"train": range(5, 10)})
    (tmp_path / "held.txt").write_text("3.jpg\n7.jpg\n")
    found = read(one, two, one, held_out=str(tmp_path / "held.txt"), repeats=(2.0, 0.5, 9.0))
    assert found.repeats is not None
    assert [*found.repeats] == [2.0] * 4 + [0.5] * 4
    assert read(one, two).repeats is None


@pytest.mark.parametrize(
    ("repeats", "message"),
    [
        ((1.0,), "--repeat has 1 number for 2 datasets; give one for each"),
        ((1.0, 0.0), "--repeat must be at least 0.001 and at most 1000, not 0"),
        ((1.0, 0.0004), "--repeat must be at least 0.001 and at most 1000, not 0.0004"),
        ((1.0, float("nan")), "--repeat must be at least 0.001 and at most 1000, not nan"),
    ],
)
def test_wrong_repeats_are_one_sentence(tmp_path: Path, repeats: tuple[float, ...], message: str) -> None:
    folder = dataset(tmp_path, {"train": range(5)})
    with pytest.raises(ConfigError, match=f"^{message}$"):
        read(folder, folder, repeats=repeats)


def test_held_out_images_may_be_of_any_dataset(tmp_path: Path) -> None:
    one, two = dataset(tmp_path / "one", {"train": range(5)}), dataset(tmp_path / "two", {"train": range(5, 10)})
    (tmp_path / "held.txt").write_text("3.jpg\n7.jpg\n")
    found = read(one, two, held_out=str(tmp_path / "held.txt"))
    assert [sample.name for sample in found.validation] == ["3.jpg", "7.jpg"]
    assert len(found.train) == 8


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({"dev": range(5), "test": range(5, 9)}, r"holds only dev and test; give data with a training split"),
        ({"train": range(1)}, r"too few images for training and validation; add images"),
    ],
)
def test_data_that_cannot_train_are_refused(tmp_path: Path, splits: dict[str, range], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(dataset(tmp_path, splits))


def test_held_out_captions_are_not_read_as_text(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "data", {"train": range(10)})
    (tmp_path / "held.txt").write_text("3.jpg\n")
    lines = ["photo 3", "PHOTO 3 .", "a photo", "", *(f"a line {n}" for n in range(250))]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    found = read(folder, text=[str(tmp_path / "text.txt")], held_out=str(tmp_path / "held.txt"))
    assert len(found.validation_text) == 2
    assert sorted([*found.text, *found.validation_text]) == sorted(f"a line {n}" for n in range(250))


def test_few_lines_still_judge_the_language_model(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("one line\nanother line\n")
    found = read(dataset(tmp_path / "data", {"train": range(10)}), text=[str(tmp_path / "text.txt")])
    assert (len(found.text), len(found.validation_text)) == (1, 1)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_a_text_file_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"text\.txt (cannot be read|is empty).*give a UTF-8 file"):
        read(dataset(tmp_path / "data", {"train": range(10)}), text=[str(tmp_path / "text.txt")])


def test_the_seed_decides_the_weights(recipe: MakeRecipe, data: Data) -> None:
    one, again, other = (new_captioner(recipe(seed=seed), data).model.state_dict() for seed in (1, 1, 2))
    assert all(value.equal(again[name]) for name, value in one.items())
    assert not other["decoder.token_embedding.weight"].equal(one["decoder.token_embedding.weight"])
