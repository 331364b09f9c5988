"""Saving over a checkpoint touches nothing else, follows a symlink, and survives a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.checkpoint import Checkpoint, load, save

from .test_directory import FILES, logits, make, no_room_for_weights, sentence


def test_what_an_interrupted_save_left_is_cleared(original: Checkpoint, saved: Path) -> None:
    for name in (".saved.captioner-0123abcd.partial", ".saved.captioner-0123abcd.old"):
        (saved.parent / name).mkdir()
        (saved.parent / name / "junk").touch()
    save(original, saved)
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]
    assert {path.name for path in saved.iterdir()} == FILES


def test_other_folders_beside_it_stay(original: Checkpoint, saved: Path) -> None:
    names = ("saved.partial", "saved.old", ".saved.old", ".saved.captioner-mine.old", ".other.captioner-0123abcd.old")
    for name in names:
        (saved.parent / name).mkdir()
        (saved.parent / name / "mine").touch()
    for _ in range(2):
        save(original, saved)
    assert {path.name for path in saved.parent.iterdir()} == {"saved", *names}
    assert all((saved.parent / name / "mine").exists() for name in names)


def test_behind_a_symlink_the_directory_is_replaced(original: Checkpoint, saved: Path, tmp_path: Path) -> None:
    link = tmp_path / "links" / "latest"
    link.parent.mkdir()
    link.symlink_to(saved)
    for seed in (1, 2):
        other = make(seed)
        assert save(other, link) == link
        assert link.is_symlink()
        assert torch.equal(logits(load(saved)), logits(other))
    assert [path.name for path in link.parent.iterdir()] == ["latest"]
    assert [path.name for path in saved.parent.iterdir() if path.name != "links"] == ["saved"]
    dangling = link.with_name("next")
    dangling.symlink_to(tmp_path / "elsewhere" / "new")
    save(original, dangling)
    assert dangling.is_symlink()
    assert {path.name for path in (tmp_path / "elsewhere" / "new").iterdir()} == FILES


def test_what_a_killed_save_has_set_aside_is_named(original: Checkpoint, saved: Path, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    rename = Path.rename

    def once(path: Path, target: Any) -> None:
        rename(path, target)
        raise Killed

    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(Path, "rename", once)  # the old directory is aside, and the new one not yet in its place
        with pytest.raises(Killed):
            save(make(1), saved)
    assert not saved.exists()
    told = sentence(lambda: load(saved), "saved is missing, since a process died .* rename .*[.]old to saved")
    rename(Path(told.partition(": rename ")[2].rpartition(" to ")[0]), saved)
    assert torch.equal(logits(load(saved)), logits(original))
    saved.rename(tmp_path / ".best.captioner-0123abcd.old")
    assert "/best is missing" in sentence(lambda: load(tmp_path), "rename .*[.]old to best")
    with pytest.MonkeyPatch.context() as broken:
        no_room_for_weights(broken)
        sentence(lambda: save(original, tmp_path / "best"), "free some space")
    assert (tmp_path / ".best.captioner-0123abcd.old").is_dir(), "it is the only one"
    save(original, tmp_path / "best")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".best")]


@pytest.mark.parametrize("name", ["a\0b", "a" * 5000, "./" + "a" * 300])
def test_a_name_that_no_file_can_have_is_one_sentence(name: str) -> None:
    sentence(lambda: load(name), "is not a checkpoint directory")
