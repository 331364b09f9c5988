"""Plans of a run: accepted and refused requests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from captioner.errors import UsageError
from captioner.folder.plan import Place, Plan, Shard, place_of, template_of

PLACE = Place(root="/photos", out="/photos", beside=True)


def plan(**options: Any) -> Plan:
    return Plan(**{"place": PLACE, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": ("txt", "doc")}, "unknown output 'doc'; choose from txt, caption, jsonl"),
        ({"outputs": ("",)}, "unknown output ''"),
        ({"outputs": ("txt", "txt")}, "duplicate output"),
        ({"existing": "replace"}, "existing must be one of skip, overwrite, append, prepend"),
        ({"min_confidence": 70.0}, "from 0 to 1, not 70"),
        ({"min_confidence": float("nan")}, "from 0 to 1"),
        ({"template": "{caption} {tags}"}, "{caption} {name} {folder}"),
        ({"template": "{caption!r}"}, "unknown field"),
        ({"template": "{caption:>9}"}, "unknown field"),
        ({"template": "{}"}, "unknown field"),
        ({"template": "a {caption"}, "for a literal brace"),
        ({"template": "photo"}, "lacks the caption"),
        ({"outputs": ("metadata",), "place": Place(root="/photos", out="/else", beside=False)}, "leave out --out"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        plan(**options)
    assert message in str(refusal.value)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "-1/4", "a/b", "1/4/2", "1/" + "9" * 5000])
def test_parts_are_numbered_from_one(text: str) -> None:
    with pytest.raises(UsageError, match="1/8 to 8/8"):
        Shard.parse(text)


def test_parts_are_disjoint_complete_and_stable() -> None:
    keys = [f"folder/{n}.jpg" for n in range(2000)] + ["not-utf8-\udcff.jpg"]
    parts = [Shard.parse(f"{n}/7") for n in range(1, 8)]
    held = [[key for key in keys if part.holds(key)] for part in parts]
    assert sorted(key for part in held for key in part) == sorted(keys)
    assert min(map(len, held)) > 2000 / 7 * 0.8
    assert Shard(number=2, of=7).holds("folder/2.jpg"), "a changed rule would divide a running array anew"


def test_templates() -> None:
    assert (
        plan(template="{folder}, {caption} ({name})").compose("a cat", "/photos/zwx/01.tar.jpg")
        == "zwx, a cat (01.tar)"
    )
    assert plan(template=template_of(None, "a {b}, ", " !")).compose("cat", "x.jpg") == "a {b}, cat !"
    assert plan(template=template_of("<{caption}>", "zwx ", "")).compose("cat", "x.jpg") == "zwx <cat>"


@pytest.mark.parametrize(
    ("existing", "combined"),
    [("skip", "new"), ("overwrite", "new"), ("append", "old, new"), ("prepend", "new, old")],
)
def test_captions_that_exist(existing: str, combined: str) -> None:
    assert plan(existing=existing).combine(" old\n", "new") == combined
    assert plan(existing=existing).combine(" \n", "new") == "new"


def test_names_are_below_the_folder_wherever_it_is_called_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    for spelt in ("photos", "./photos/", os.fspath(tmp_path / "photos")):
        place = place_of([spelt], None)
        assert (place.root, place.beside) == (os.fspath(tmp_path / "photos"), True)
        assert place.key(os.path.join(spelt, "a", "b.jpg")) == "a/b.jpg"
    assert place.key("other/c.jpg") == os.fspath(tmp_path / "other" / "c.jpg")
    assert place.key("https://host/a.jpg?b=c") == "https://host/a.jpg?b=c"
    (tmp_path / "photos" / "one.zip").touch()
    assert place_of(["photos/one.zip"], None).key("photos/one.zip!/a.jpg") == "one.zip!/a.jpg"
    assert place_of(["-"], None).root == place_of(["photos/*.jpg"], None).root == os.fspath(tmp_path)
    assert place_of(["photos", "other"], None).key("photos/a.jpg") == "photos/a.jpg"
    elsewhere = place_of(["photos"], "results")
    assert (elsewhere.key("photos/a.jpg"), elsewhere.beside) == ("a.jpg", False)
    assert elsewhere.name("photos/a.jpg") == os.fspath(tmp_path / "photos" / "a.jpg")
    assert elsewhere.name("results/a.jpg") == "a.jpg"
