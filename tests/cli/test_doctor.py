"""The doctor command: text or JSON, exit codes, and a process in which torch is broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from captioner.cli import main
from captioner.doctor import report
from captioner.doctor.lines import Fact, Warned

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("fatal", "code"), [(False, 0), (True, 1)])
def test_exit_codes_and_forms(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], fatal: bool, code: int
) -> None:
    lines = (Fact(name="CPU", value="schnell ü"), Warned(problem="it is warm", remedy="cool it", fatal=fatal))
    monkeypatch.setattr(report.examine, "__defaults__", ({"system": {"CPU": lambda: iter(lines)}},))
    assert main(["doctor"]) == code
    assert capfdbinary.readouterr().out.decode() == "system\n  CPU: schnell ü\nwarning: it is warm; cool it\n"
    assert main(["doctor", "--json"]) == code
    printed = json.loads(capfdbinary.readouterr().out)
    assert printed == {"system": {"CPU": "schnell ü"}, "warnings": [{"problem": "it is warm", "remedy": "cool it"}]}


def test_without_torch_the_rest_is_reported() -> None:
    """The report is most needed where torch cannot be imported; it has no traceback."""
    program = """
import sys
sys.modules["torch"] = None
from captioner.cli import main
sys.exit(main(["doctor"]))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("  torch: not known (ModuleNotFoundError: ")]
    assert [line for line in lines if line.startswith("  shipped model: ")]
    assert [line for line in lines if line.startswith("warning: no caption could be written")]
    assert "Traceback" not in done.stdout
