"""Names that stand for each other, and names that exclude each other."""

from __future__ import annotations

import pytest

from captioner.metrics.kinds import KINDS, SYNONYMS, Kinds

LABELS = ("person", "bicycle", "zebra", "horse", "dog", "cat", "couch", "tennis racket", "wine glass", "bus")


@pytest.fixture(scope="module")
def kinds() -> Kinds:
    return Kinds(LABELS)


@pytest.mark.parametrize(
    ("label", "caption", "named"),
    [
        ("person", "two men on horses", True),
        ("person", "a toddler in a park", True),
        ("person", "an empty street", False),
        ("bicycle", "a bike against a wall", True),
        ("couch", "a dog on a sofa", True),
        ("couch", "furniture in a room", True),
        ("zebra", "zebras in the grass", True),
        ("zebra", "a wild animal", True),
        ("zebra", "a horse in a field", False),
        ("dog", "a hot dog in a bun", False),
        ("tennis racket", "a player with a racquet", True),
        ("no label at all", "a dog", False),
        ("zebra", "", False),
    ],
)
def test_a_caption_names_a_label_by_any_of_its_names(kinds: Kinds, label: str, caption: str, named: bool) -> None:
    assert kinds.names(label, caption) is named


def test_a_child_is_not_an_adult(kinds: Kinds) -> None:
    assert not Kinds(["boy", "man"]).names("boy", "a man in a suit")


@pytest.mark.parametrize(
    ("label", "caption", "seen", "excluded"),
    [
        ("zebra", "a horse in a field", (), {"horse"}),
        ("zebra", "horses and a zebra", (), {"horse"}),
        ("zebra", "a horse in a field", ("horse",), set()),
        ("cat", "a puppy on a couch", (), {"puppy"}),
        ("cat", "a puppy on a couch", ("dog",), set()),
        ("cat", "an animal on a couch", (), set()),
        ("bus", "a man in a truck", (), {"truck"}),
        ("wine glass", "a dog", (), set()),
    ],
)
def test_another_kind_of_the_same_excludes_a_label(
    kinds: Kinds, label: str, caption: str, seen: tuple[str, ...], excluded: set[str]
) -> None:
    assert kinds.excluded(label, caption, seen) == excluded


def test_the_tables_hold_plain_singular_names() -> None:
    kinds = Kinds(())
    words = {word for line in SYNONYMS for word in line} | {w for line in KINDS.values() for w in line.split(", ")}
    assert all(word == " ".join(word.lower().split()) and word for word in words)
    assert all(word in kinds.words(word) for word in words)
    assert all(len(set(line)) == len(line) for line in SYNONYMS)
