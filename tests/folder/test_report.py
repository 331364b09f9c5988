"""The page of a run: its photos by confidence, the lowest first, with any names."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

from PIL import Image

from captioner.data.find import find_items
from captioner.folder.entry import CaptionRecord, Entry
from captioner.folder.journal import Journal
from captioner.folder.plan import Plan, place_of
from captioner.folder.report import page


def journal(*entries: tuple[str, str, float]) -> Journal:
    found = Journal(None)
    found.add([Entry(id=name, key=name, captions=(CaptionRecord(text, -0.5, sure),)) for name, text, sure in entries])
    return found


def plan(folder: Path, **options: float) -> Plan:
    return Plan(place=place_of([os.fspath(folder)], None), template="zwx {caption}", **options)  # type: ignore[arg-type]


def test_photos_captions_and_what_sorts_them(tmp_path: Path) -> None:
    Image.new("RGB", (400, 300), "navy").save(tmp_path / "a.png")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "in/c.png")
    inside, odd = f"{tmp_path}/b.zip!/in/c.png", os.fsdecode(b"gone-\xff.png")
    entries = journal(
        (f"{tmp_path}/a.png", "a dog <b>&", 0.9),
        (inside, "a cat", 0.5),
        (odd, "a car a car", 0.1),
        ("https://h/x", "", 0.2),
    )
    text = page(entries, plan(tmp_path, min_confidence=0.3), 'photos "x" <y>', ["Model: m & n."], walk=find_items)
    assert not re.findall(r"(?:src|href|url|action)\s*[=(]\s*[\"']?(?:https?:|//)", text)
    assert "$" not in text.replace("${", "")
    assert text.count('<li class="card"') == 4
    assert text.count('<img src="data:image/jpeg;base64,') == 2
    assert text.count("This photo is not shown here.") == 2
    assert "zwx a dog &lt;b&gt;&amp;" in text
    assert "Model: m &amp; n." in text
    assert "gone-\\udcff.png" in text
    assert text.count(", for review") == 2
    assert re.findall(r'data-flags="([a-z]*)"', text) == ["", "", "repeats", "empty"]
    assert re.findall(r'data-sure="([0-9.]*)"', text) == ["0.9000", "0.5000", "0.1000", "0.2000"]
    assert re.search(r'<select id="order"><option value="doubtful">', text)
    assert text.encode("utf-8")


def test_of_many_the_doubtful_and_the_surest_are_shown() -> None:
    many = journal(*((f"{n}.jpg", f"caption {n}", (n * 37 % 1000) / 1000) for n in range(1000)))
    sure = sorted(entry.captions[0].confidence for entry in many.sample(100))
    assert 75 <= len(sure) <= 100
    assert sure[:50] == [n / 1000 for n in range(50)]
    assert sure[-25:] == [n / 1000 for n in range(975, 1000)]
    assert len(many.sample(1000)) == 1000
    assert sum(many.confidences(20)) == 1000
    assert many.confidences(20)[0] == 50


def test_nothing_was_captioned(tmp_path: Path) -> None:
    assert "0 images" in page(journal(), plan(tmp_path), "photos", [], walk=find_items)
