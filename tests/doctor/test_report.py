"""The report as text and for JSON, with broken probes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from captioner.doctor.lines import Fact, Line, Warned
from captioner.doctor.report import SECTIONS, examine

ROOT = Path(__file__).resolve().parents[2]


def good() -> Iterator[Line]:
    yield Fact(name="CPU", value="fast")
    yield Warned(problem="it is warm", remedy="cool it")


def broken() -> Iterator[Line]:
    raise ImportError("libcudart.so.13: cannot open shared object file")
    yield


def fatal() -> Iterator[Line]:
    yield Warned(problem="there is no model", remedy="reinstall", fatal=True)


def test_a_report_as_text() -> None:
    report = examine({"system": {"CPU": good}, "packages": {"torch": broken}})
    assert report.healthy
    assert report.text().splitlines() == [
        "system",
        "  CPU: fast",
        "packages",
        "  torch: not known (ImportError: libcudart.so.13: cannot open shared object file)",
        "warning: it is warm; cool it",
    ]
    assert examine({"system": {"CPU": broken}}).text().endswith("\nno problems were found")


def test_a_report_for_json() -> None:
    figures = examine({"system": {"CPU": good}, "files": {"model": fatal}}).figures()
    assert json.loads(json.dumps(figures)) == {
        "system": {"CPU": "fast"},
        "files": {},
        "warnings": [
            {"problem": "it is warm", "remedy": "cool it"},
            {"problem": "there is no model", "remedy": "reinstall"},
        ],
    }


def test_a_fatal_warning_is_not_healthy() -> None:
    assert not examine({"files": {"model": fatal}}).healthy


def test_probes_have_different_names() -> None:
    names = [name for probes in SECTIONS.values() for name in probes]
    assert len(names) == len(set(names))


def test_the_page_shows_every_section() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (example,) = (text for language, text in fences if not language)
    assert [line for line in example.splitlines() if not line.startswith(" ")] == [*SECTIONS, "no problems were found"]


def test_a_bug_report_asks_for_it() -> None:
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    asked = {part["id"]: part for part in form["body"] if part["type"] == "textarea"}
    assert "`captioner doctor`" in asked["doctor"]["attributes"]["label"]
    assert asked["doctor"]["validations"]["required"] is True
    assert "captioner doctor" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
