"""Training data of the captions that people accepted."""

from __future__ import annotations

from pathlib import Path

from captioner.data.decisions import FILE, Decision, State
from captioner.training.setup import read_data


def test_only_accepted_captions(tmp_path: Path) -> None:
    lines = []
    for n in range(8):
        (tmp_path / f"{n}.png").touch()
        (tmp_path / f"{n}.txt").write_text(f"written {n}\n")
        state: State = "rejected" if n == 3 else "accepted" if n % 2 else "edited"
        lines.append(Decision(path=f"{n}.png", state=state, captions=(f"reviewed {n}",)).line())
    (tmp_path / FILE).write_bytes(b"".join(lines))
    said: list[str] = []
    data = read_data([str(tmp_path)], accepted=True, validation_images=50, report=said.append)
    captions = {sample.name: sample.captions for sample in (*data.train, *data.validation)}
    assert captions == {f"{n}.png": (f"reviewed {n}",) for n in range(8) if n != 3}
    assert "1 rejected and left out" in said[-1]
