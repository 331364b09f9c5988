"""Labels in captions."""

from __future__ import annotations

import pytest

from captioner.metrics.nouns import LabelFinder, label_words


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("Two dogs, and a hot dog beside knives.", {"dog", "hot dog", "knife"}),
        ("a dogma", set()),
        ("the dog's t-shirts", {"dog", "t-shirt"}),
        ("a dog outside a Café", {"dog", "café"}),
        ("一只长颈鹿和一只狗", {"长颈鹿", "狗"}),
        ("", set()),
    ],
)
def test_labels_of_any_script_are_found(caption: str, found: set[str]) -> None:
    labels = ("dog", "hot dog", "knife", "t-shirt", "café", "狗", "鹿", "长颈鹿")
    assert {labels[n] for n in LabelFinder(labels).find(caption)} == found


def test_words_of_a_label() -> None:
    assert label_words("T-shirt 2") == ["t", "shirt"]
    assert label_words("狗 dog") == ["狗", "dog"]
    assert label_words("1984 !") == []
    assert LabelFinder(("7",)).find("7 dogs") == set()
