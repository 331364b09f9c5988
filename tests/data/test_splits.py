"""Held-out images, chosen by their names alone or by a list."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from captioner.data.samples import Sample
from captioner.data.splits import ALL, Dataset, hold_out, hold_out_named
from captioner.errors import DataError


def samples(*names: str) -> list[Sample]:
    return [Sample(name=name, path=Path(name), captions=("a",)) for name in names]


def names(group: list[Sample]) -> list[str]:
    return [sample.name for sample in group]


MANY = samples(*(f"images/{number}.jpg" for number in range(2000)))


def test_the_choice_is_the_documented_hash() -> None:
    # The first six bytes of the SHA-256 of each name, over 2**48: a change here moves images between splits.
    assert names(hold_out(samples(*(f"{number}.jpg" for number in range(80))))[1]) == [
        "26.jpg",
        "34.jpg",
        "36.jpg",
        "38.jpg",
    ]


def test_hold_out_keeps_order_and_covers_everything() -> None:
    kept, held_out = hold_out(MANY)
    assert sorted(names(kept) + names(held_out)) == sorted(names(MANY))
    assert names(kept) == [name for name in names(MANY) if name in set(names(kept))]
    assert 150 < len(held_out) < 250
    assert 900 < len(hold_out(MANY, 0.5)[1]) < 1100


def test_hold_out_depends_neither_on_order_nor_on_other_images() -> None:
    chosen = set(names(hold_out(MANY)[1]))
    shuffled = random.Random(0).sample(MANY, 1500)
    assert set(names(hold_out(shuffled)[1])) == chosen & set(names(shuffled))
    assert set(names(hold_out(MANY, share=0.2)[1])) > chosen


def test_small_datasets_have_an_image_on_each_side() -> None:
    for count in range(2, 40):
        for share in (0.001, 0.999):
            kept, held_out = hold_out(MANY[:count], share)
            assert kept
            assert held_out
    assert hold_out(MANY[:1]) == (MANY[:1], [])
    assert hold_out([]) == ([], [])


@pytest.mark.parametrize("share", [0, 1, -0.5, 10])
def test_share_must_be_a_share(share: float) -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        hold_out(MANY, share)


def test_hold_out_named(tmp_path: Path) -> None:
    listed = tmp_path / "names.txt"
    listed.write_bytes("\ufeffimages/3.jpg\r\n\r\n 1.jpg \nelsewhere/7.jpg\n3.jpg".encode())
    kept, held_out = hold_out_named(MANY[:10], listed)
    assert names(held_out) == ["images/1.jpg", "images/3.jpg", "images/7.jpg"]
    assert len(kept) == 7


def test_whole_names_win_over_last_parts(tmp_path: Path) -> None:
    listed = tmp_path / "names.txt"
    listed.write_text("1.jpg")
    assert names(hold_out_named(samples("a/1.jpg", "1.jpg", "b/1.jpg"), listed)[1]) == ["1.jpg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1.jpg\nx.jpg\ny.jpg", "2 of the 3 images in .*names.txt are not in the data: x.jpg, y.jpg"),
        ("\n".join(f"{letter}.png" for letter in "abcde"), "5 of the 5 images .*: a.png, b.png, c.png, ..."),
        ("2.jpg", "1 of the 1 images .* matches several images"),
        ("a/1.jpg\na/2.jpg\nb/2.jpg", "leaves nothing to train on"),
        (" \n\n", "lists no images"),
    ],
)
def test_unusable_lists_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        hold_out_named(samples("a/1.jpg", "a/2.jpg", "b/2.jpg"), tmp_path / "names.txt")


def test_split_of_a_dataset() -> None:
    named = Dataset(splits={"train": tuple(MANY[:5]), "dev": tuple(MANY[5:7])})
    assert named.split("validation") == MANY[5:7]
    assert named.split("all") == MANY[:7]
    with pytest.raises(DataError, match="no split 'test'; choose one of: train, dev, all"):
        named.split("test")
    unnamed = Dataset(splits={ALL: tuple(MANY)})
    assert (unnamed.split("train"), unnamed.split("dev")) == hold_out(MANY)
    for absent in ("test", "nonsense"):
        with pytest.raises(DataError, match=f"no split '{absent}'; choose one of: all, train, dev"):
            unnamed.split(absent)
