from __future__ import annotations

import tracemalloc
from pathlib import Path

from captioner.data.samples import Sample
from captioner.evaluation.leaks import leaked


def image(path: Path, content: bytes | None) -> Sample:
    if content is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return Sample(name=path.name, path=path, captions=("a",))


def test_the_same_file_and_the_same_bytes_leak_and_the_same_name_does_not(tmp_path: Path) -> None:
    train = [image(tmp_path / "train" / name, content) for name, content in (("1.jpg", b"one"), ("2.jpg", b"two"))]
    test = [
        image(tmp_path / "test" / "1.jpg", b"other"),
        image(tmp_path / "test" / "copy.jpg", b"two"),
        image(tmp_path / "test" / "as long.jpg", b"six"),
        train[0],
        image(tmp_path / "test" / "gone.jpg", None),
    ]
    assert leaked(test, train) == ["copy.jpg", "1.jpg"]
    assert leaked(test[:1], train) == []
    gone = image(tmp_path / "train" / "gone.jpg", None)
    assert leaked([test[-1]], [gone]) == []


def test_files_are_compared_in_parts(tmp_path: Path) -> None:
    train, test = image(tmp_path / "1.jpg", b"x" * (40 << 20)), image(tmp_path / "2.jpg", b"x" * (40 << 20))
    tracemalloc.start()
    assert leaked([test], [train]) == ["2.jpg"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
