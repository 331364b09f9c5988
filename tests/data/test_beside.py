"""The assignment of text files to images."""

from __future__ import annotations

import unicodedata

import pytest

from captioner.data.beside import Beside


@pytest.mark.parametrize(
    ("names", "image", "found", "own"),
    [
        (["dog.jpg"], "dog.jpg", [], "dog.txt"),
        (["dog.jpg", "dog.txt"], "dog.jpg", ["dog.txt"], "dog.txt"),
        (["photo.jpeg", "photo.jpeg.txt"], "photo.jpeg", ["photo.jpeg.txt"], "photo.jpeg.txt"),
        (["photo.jpeg", "photo.jpeg.txt", "photo.txt"], "photo.jpeg", ["photo.jpeg.txt", "photo.txt"], None),
        (["A.JPG", "A.TXT"], "A.JPG", ["A.TXT"], "A.TXT"),
        (["A.JPG", "a.Txt"], "A.JPG", ["a.Txt"], "a.Txt"),
        (["c.jpg", "c.png", "c.txt"], "c.jpg", ["c.txt"], "c.jpg.txt"),
        (["c.jpg", "c.png", "c.txt"], "c.png", ["c.txt"], "c.png.txt"),
        (["c.jpg", "c.png", "c.txt", "c.png.txt"], "c.png", ["c.png.txt", "c.txt"], "c.png.txt"),
        (["A.jpg", "a.jpg", "a.txt"], "A.jpg", [], "A.jpg.txt"),
        (["A.jpg", "a.jpg", "a.txt"], "a.jpg", ["a.txt"], "a.jpg.txt"),
        (["s0.input.jpg", "s0.outputs.txt"], "s0.input.jpg", ["s0.outputs.txt"], "s0.input.txt"),
        (["s0.input.jpg", "s0.mask.jpg", "s0.outputs.txt"], "s0.input.jpg", [], "s0.input.txt"),
        (["s0.input.jpg", "s0.a.txt", "s0.b.txt"], "s0.input.jpg", [], "s0.input.txt"),
        (["notes.jpg", "notes.old.txt"], "notes.jpg", [], "notes.txt"),
        (["v1.0.jpg", "v1.1.jpg", "v1.1.txt"], "v1.0.jpg", [], "v1.0.txt"),
        (["dog.jpg", "dog.nef", "dog.txt"], "dog.jpg", ["dog.txt"], "dog.txt"),
        (["c.jpg", "c.png", "c.jpg.png"], "c.jpg", [], "c.jpg.txt"),
        (["c.jpg", "c.png", "c.jpg.png"], "c.jpg.png", [], "c.jpg.png.txt"),
        (["c.jpg", "C.JPG.png", "c.jpg.txt"], "C.JPG.png", [], "C.JPG.png.txt"),
    ],
)
def test_the_files_of_an_image(names: list[str], image: str, found: list[str], own: str | None) -> None:
    beside = Beside(names)
    assert beside.files(image, ".txt") == found
    assert beside.own(image, ".txt") == (own or found[0])


def test_files_in_another_folder() -> None:
    beside = Beside(["c.jpg", "c.png"], ["c.txt", "C.JPG.txt"])
    assert beside.files("c.jpg", ".txt") == ["C.JPG.txt", "c.txt"]
    assert beside.own("c.jpg", ".txt") == "C.JPG.txt"
    assert beside.own("c.png", ".txt") == "c.png.txt"


def test_a_file_that_belongs_to_an_image_is_no_table() -> None:
    beside = Beside(["A.JPG", "A.TXT", "b.jpg", "b.jpg.txt", "s0.input.jpg", "s0.outputs.txt", "captions.txt"])
    assert [name for name in ("A.TXT", "b.jpg.txt", "s0.outputs.txt", "captions.txt") if not beside.is_owned(name)] == [
        "captions.txt"
    ]


def test_a_letter_may_be_composed_or_not() -> None:
    """macOS takes the two forms for one name, and tables and archives from it hold the other one."""
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    assert composed != apart
    beside = Beside([f"{composed}.jpg", f"{apart}.txt"])
    assert beside.files(f"{composed}.jpg", ".txt") == [f"{apart}.txt"]
    assert beside.own(f"{composed}.jpg", ".txt") == f"{apart}.txt"
    assert beside.is_owned(f"{apart}.txt")
