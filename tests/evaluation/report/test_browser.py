"""The page in a real browser: it sorts, filters, works by keyboard, and fits a phone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captioner.data.samples import Sample
from captioner.evaluation.evaluate import judge_captions
from captioner.evaluation.report.page import page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")]

PROBE = """
<script>
const errors = [];
addEventListener("error", (event) => errors.push(String(event.message)));
const visible = () => [...document.querySelectorAll(".card")].filter((card) => !card.hidden);
const said = () => visible().map((card) => card.querySelector(".said").textContent);
const choose = (id, value) => {
  const control = document.getElementById(id);
  control.value = value;
  control.dispatchEvent(new Event(control.tagName === "SELECT" ? "change" : "input"));
};
addEventListener("load", () => {
  const found = { first: said().slice(0, 3), shown: visible().length, status: status.textContent };
  found.status = document.getElementById("status").textContent;
  document.getElementById("more").click();
  found.after = visible().length;
  found.focus = document.activeElement.tagName;
  found.focused = visible().findIndex((card) => card.contains(document.activeElement));
  choose("order", "best");
  found.best = said()[0];
  choose("order", "longest");
  found.longest = said()[0];
  choose("flag", "empty");
  found.empty = said();
  choose("flag", "");
  choose("text", "kids BALL");
  found.kids = said();
  found.kidsStatus = document.getElementById("status").textContent;
  choose("text", "no such words");
  found.nothing = document.getElementById("status").textContent;
  choose("text", "");
  found.width = document.documentElement.scrollWidth;
  found.window = innerWidth;
  const controls = [...document.querySelectorAll("button, select, input")];
  found.small = controls.filter((control) => control.offsetHeight && control.offsetHeight < 44).length;
  found.pictures = [...document.images].filter((image) => image.complete && image.naturalWidth).length;
  found.errors = errors;
  parent.postMessage(JSON.stringify(found), "*");
});
</script>
"""
FRAME = """<!DOCTYPE html><body style="margin:0"><pre id="told"></pre>
<iframe id="page" style="width:%dpx;height:900px;border:0"></iframe><script>
addEventListener("message", (event) => document.getElementById("told").textContent = event.data);
document.getElementById("page").src = "report.html";
</script>"""


def opened(folder: Path, text: str, width: int) -> dict[str, Any]:
    """Return the state of the page after a person's clicks, in a window of this width."""
    (folder / "report.html").write_text(text.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    (folder / "frame.html").write_text(FRAME % width, encoding="utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-sync", f"--user-data-dir={folder / 'profile'}"]
    command += [
        "--window-size=1400,1000",
        "--virtual-time-budget=20000",
        "--dump-dom",
        f"file://{folder / 'frame.html'}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    told = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    assert told, done.stdout[:500]
    found: dict[str, Any] = json.loads(told.group(1).replace("&lt;", "<").replace("&amp;", "&"))
    return found


@pytest.mark.parametrize("width", [375, 1280])
def test_a_person_looks_through_it(samples: list[Sample], tmp_path: Path, width: int) -> None:
    Image.new("RGB", (400, 300), "navy").save(tmp_path / "photo.png")
    said = ["", "two children play with a red ball", "a man rides a horse in a field with a very long caption about it"]
    said += ["a bowl of fruit on a wooden table", *["a cat"] * 96]
    many = [replace(samples[n % 4], name=f"{n}.jpg", path=tmp_path / "photo.png") for n in range(100)]
    found = opened(
        tmp_path, page(judge_captions(said, many), "a model with quite a long name, runs/some/folder"), width
    )
    assert found["errors"] == []
    assert (found["shown"], found["after"]) == (60, 100)
    assert found["status"] == "100 images; 60 shown"
    assert (found["focus"], found["focused"]) == ("SUMMARY", 60)
    assert "two children" not in " ".join(found["first"])  # the worst come first
    assert found["best"] in (said[1], said[3])
    assert found["longest"] == said[2]
    assert found["empty"] == ["nothing"]
    assert len(found["kids"]) == 25  # the references match too
    assert found["kidsStatus"] == "25 images"
    assert found["nothing"] == "0 images"
    assert found["window"] == width
    assert found["width"] <= width  # nothing to scroll sideways but the tables within
    assert found["small"] == 0
    assert found["pictures"] > 0
