"""The model card for the hub."""

from __future__ import annotations

import pytest

from captioner.checkpoint.card import PLACE, hub_card
from captioner.errors import UsageError


def test_a_plain_card_gets_front_matter() -> None:
    found = hub_card(f"# Mine\n\nload({PLACE})\n", "me/mine", license="mit", base="me/base")
    assert found == (
        "---\nlibrary_name: captioner\npipeline_tag: image-to-text\nlicense: mit\nbase_model: me/base\n"
        "tags:\n- image-captioning\n---\n\n# Mine\n\nload(me/mine)\n"
    )
    assert "license" not in hub_card("# Mine\n", "me/mine")


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        ("language: en", "language: en\nlicense: mit"),
        ("license: other\nlanguage: en", "license: mit\nlanguage: en"),
        ("license:\n- apache-2.0\n- other\nlanguage: en", "license: mit\nlanguage: en"),
        ("license: >\n  a text of\n\n  several lines\nlanguage: en", "license: mit\nlanguage: en"),
        ("license_name: mine\nmore:\n  license: inner", "license_name: mine\nmore:\n  license: inner\nlicense: mit"),
        ("", "license: mit"),
    ],
)
def test_a_given_licence_stands_in_the_front_matter_that_is_there(front: str, expected: str) -> None:
    card = f"---\n{front}\n---\n# Mine\n---\n" if front else "---\n---\n# Mine\n---\n"
    assert hub_card(card, "me/mine", license="mit") == f"---\n{expected}\n---\n# Mine\n---\n"
    assert hub_card(card, "me/mine") == card


def test_a_base_is_added_and_never_replaced() -> None:
    card = "---\nlanguage: en\n---\n# Mine\n"
    named = hub_card(card, "me/mine", base="me/base")
    assert named == "---\nlanguage: en\nbase_model: me/base\n---\n# Mine\n"
    assert hub_card(named, "me/mine", base="me/other") == named


def test_front_matter_of_windows_and_a_rule_that_is_none() -> None:
    windows = hub_card("\ufeff---\r\nlicense: other\r\n---\r\n# Mine\r\n", "me/mine", license="mit")
    assert windows == "---\nlicense: mit\n---\n# Mine\r\n"
    assert hub_card("---\n# A rule above\n", "me/mine", license="mit").endswith("---\n\n---\n# A rule above\n")


@pytest.mark.parametrize("license", ["", "mine: all", "mit\ntags: [x]", "- mit", "[mit]"])
def test_a_licence_is_one_name(license: str) -> None:
    with pytest.raises(UsageError, match="is not a licence identifier of the hub"):
        hub_card("# Mine\n", "me/mine", license=license)
