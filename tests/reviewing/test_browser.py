"""The page in a real browser: by keyboard alone, with 2,000 photos, two people, a phone, and axe-core."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captioner.reviewing.asking import Asked, Wish
from captioner.reviewing.seen import Change
from captioner.reviewing.shelf import Shelf

from .browser import CHROMIUM, Browser
from .conftest import at

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")]
pytest.importorskip("uvicorn")
COUNT = 2000
HOSTILE = "<img src=x onerror=document.title='run'> & \"a dog\""
CAPTION, STATUS = "document.getElementById('caption').value", "document.getElementById('status').textContent"
TILES = "document.querySelectorAll('.tile').length"
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


class Told(Asked):
    """A model that answers at once."""

    def suggest(self, photo: Any, wish: Wish) -> list[dict[str, object]]:
        return [{"text": f"a suggestion {n} {wish.prefix}".strip(), "confidence": 0.5} for n in range(wish.count)]

    def explain(self, photo: Any, caption: str) -> list[dict[str, object]]:
        words = caption.split()
        return [
            {"word": word, "probability": 0.5, "veil": PIXEL, "where": "most at the centre (40%)"} for word in words
        ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 2,000 photos with captions in a table; some lack one, one is HTML."""
    folder = tmp_path_factory.mktemp("many")
    Image.linear_gradient("L").resize((160, 120)).save(folder / "0.png")
    data = (folder / "0.png").read_bytes()
    rows = []
    for n in range(COUNT):
        (folder / f"{n}.png").write_bytes(data)
        if n % 10:
            caption = HOSTILE if n == 1 else f"a dog number {n} on the grass"
            rows.append({"path": f"{n}.png", "caption": caption, "score": -1.0, "confidence": n / COUNT})
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> str:
    from captioner.reviewing.serve import serve

    told: queue.Queue[str] = queue.Queue()
    arguments = {"port": 0, "report": told.put}
    threading.Thread(target=serve, args=(Shelf(str(folder)), Told(None)), kwargs=arguments, daemon=True).start()
    return told.get(timeout=60)


@pytest.fixture(scope="module")
def browser(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("browser"))
    browser.open(address)
    yield browser
    browser.close()


def captions(folder: Path) -> dict[str, str]:
    lines = (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["path"]: row["caption"] for row in map(json.loads, lines)}


def test_two_thousand_photos_are_a_few_elements(browser: Browser) -> None:
    assert browser.run("document.title") == "Review captions", "a caption is text, not HTML"
    assert "<img src=x" in browser.run("document.querySelector('.tile').textContent"), "the most doubtful comes first"
    assert browser.run(TILES) < 150
    assert browser.run("document.getElementById('counts').textContent").startswith(f"{COUNT} of {COUNT} photos")
    browser.run("document.querySelector('.tile').focus()")
    browser.press("End")
    browser.wait(f"document.activeElement.dataset.place === '{COUNT - 1}'")
    assert browser.run(TILES) < 150
    browser.press("Home")
    browser.wait("document.activeElement.dataset.place === '0'")
    browser.run(
        "new Promise((done) => { document.getElementById('grid').scrollIntoView(); requestAnimationFrame(done) })"
    )
    browser.wait("[...document.images].filter((image) => image.complete && image.naturalWidth).length > 4")


def test_by_keyboard_alone(browser: Browser, folder: Path) -> None:
    browser.run("document.body.focus(); scrollTo(0, 0)")
    for _ in range(40):  # from the top to the grid
        browser.press("Tab")
        if browser.run("document.activeElement.classList.contains('tile')"):
            break
    assert browser.run("document.activeElement.dataset.place") == "0"
    browser.press("a")
    browser.wait(f"{STATUS}.startsWith('Accepted: 1.png')")
    assert at(Shelf(str(folder)), "1.png").state == "accepted"
    browser.press("Enter")
    browser.wait(f"{CAPTION} === 'a dog number 2 on the grass'")
    browser.press("e")
    browser.wait("document.activeElement.id === 'caption'")
    browser.press("a", ctrl=True)
    browser.run("document.activeElement.select()")
    browser.type("a cat & <b>more</b>")
    browser.press("Enter", ctrl=True)
    browser.wait("document.getElementById('single-name').textContent === '3.png'")
    assert captions(folder)["2.png"] == "a cat & <b>more</b>"
    browser.press("Escape")
    browser.press("u")
    browser.wait("document.getElementById('single-name').textContent === '2.png'")
    assert captions(folder)["2.png"] == "a dog number 2 on the grass"
    assert at(Shelf(str(folder)), "2.png").state == ""
    browser.press("y")
    browser.wait(f"{STATUS}.startsWith('Redone')")
    assert at(Shelf(str(folder)), "2.png").state == "edited"
    browser.press("j")
    browser.wait("document.getElementById('single-name').textContent === '3.png'")
    browser.press("r")
    browser.wait("document.getElementById('single-name').textContent === '4.png'")
    assert at(Shelf(str(folder)), "3.png").state == "rejected"
    browser.press("?")
    browser.wait("document.getElementById('help').open")
    browser.press("Escape")
    browser.wait("!document.getElementById('help').open")
    browser.press("Escape")
    browser.wait("!document.getElementById('grid-view').hidden && document.activeElement.classList.contains('tile')")
    assert browser.errors == []


def test_suggestions_and_words(browser: Browser, folder: Path) -> None:
    browser.run("location.hash = ''")
    browser.wait("!document.getElementById('grid-view').hidden")
    browser.run("document.querySelectorAll('.tile')[5].click()")
    browser.wait("!document.getElementById('single-view').hidden")
    before = browser.run(CAPTION)
    browser.press("s")
    browser.wait("document.querySelectorAll('#suggestions button').length === 4")
    browser.press("Enter")
    browser.wait(f"{CAPTION} === 'a suggestion 0'")
    browser.press("Escape")
    browser.press("w")
    browser.wait("document.querySelectorAll('#words button').length === 3")
    browser.wait("!document.getElementById('veil').hidden")
    assert "most at the centre" in browser.run("document.getElementById('where').textContent")
    assert "not saved" not in browser.run(STATUS)
    browser.run("document.getElementById('caption').value = ''")
    browser.run("document.getElementById('caption').dispatchEvent(new Event('input'))")
    browser.press("a")
    browser.wait(f"{STATUS}.includes('no caption to accept')")
    browser.run(f"{CAPTION} = {json.dumps(before)}")
    browser.run("document.getElementById('caption').dispatchEvent(new Event('input'))")


def test_replace_everywhere_and_one_undo(browser: Browser, folder: Path) -> None:
    before = captions(folder)
    browser.run("location.hash = ''")
    browser.run("document.getElementById('replace-open').click()")
    browser.type("dog")
    browser.run("document.getElementById('put').focus()")
    browser.type("wolf")
    browser.wait("document.getElementById('replace-count').textContent.includes('captions change')")
    assert browser.run("document.querySelectorAll('#replace-list li').length") == 200
    browser.run("document.getElementById('replace-go').click()")
    browser.wait(f"{STATUS}.startsWith('Replaced in')")
    after = captions(folder)
    assert sum("wolf" in caption for caption in after.values()) > 1700
    assert after["1.png"] == HOSTILE.replace("dog", "wolf")
    assert not any("a dog " in caption for caption in after.values())
    browser.run("document.getElementById('undo').click()")
    browser.wait(f"{STATUS}.startsWith('Undone')")
    assert captions(folder) == before


@pytest.mark.parametrize("keep", ["theirs", "mine"])
def test_two_people(browser: Browser, folder: Path, keep: str) -> None:
    browser.run("document.querySelectorAll('.tile')[9].click()")
    browser.wait("!document.getElementById('single-view').hidden")
    name = browser.run("document.getElementById('single-name').textContent")
    other = Shelf(str(folder))
    seen = at(other, name)
    other.save([Change(id=seen.id, version=seen.version, captions=(f"theirs {keep}",), state="edited")])
    browser.run("document.getElementById('caption').value = 'mine'")
    browser.run("document.getElementById('accept').click()")
    browser.wait("document.getElementById('conflict').open")
    told = browser.run("document.getElementById('conflict-list').textContent")
    assert f"theirs {keep}" in told
    assert "mine" in told
    browser.run(f"document.getElementById('keep-{keep}').click()")
    wanted = "mine" if keep == "mine" else f"theirs {keep}"
    browser.wait("!document.getElementById('conflict').open")
    browser.wait(f"{STATUS} !== ''")
    for _ in range(200):
        if captions(folder)[name] == wanted:
            break
        browser.run("new Promise((done) => setTimeout(done, 50))")
    assert captions(folder)[name] == wanted
    browser.run("location.hash = ''")
    browser.wait("!document.getElementById('grid-view').hidden")


@pytest.mark.parametrize("view", ["grid", "single"])
def test_a_phone(browser: Browser, view: str) -> None:
    browser.size(375, 700)
    try:
        browser.run("scrollTo(0, 0)")
        browser.wait(f"{TILES} > 0")
        if view == "single":
            browser.run("document.querySelector('.tile').click()")
            browser.wait("!document.getElementById('single-view').hidden")
        assert browser.run("document.documentElement.scrollWidth") <= 375
        small = "[...document.querySelectorAll('button, select, input:not([type=checkbox]), textarea')]"
        small += ".filter((one) => one.offsetHeight && one.offsetHeight < 44).map((one) => one.id || one.textContent)"
        assert browser.run(small) == []
    finally:
        browser.run("location.hash = ''")
        browser.size(1280, 900)


def test_axe(browser: Browser, tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm")
    command = [npm, "install", "axe-core@4", "--prefix", str(tmp_path), "--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run(command, capture_output=True, timeout=600, check=False)
    axe = tmp_path / "node_modules" / "axe-core" / "axe.min.js"
    if not axe.is_file():
        pytest.skip("axe-core cannot be fetched")
    browser.run(axe.read_text(encoding="utf-8") + "; 0")
    views = {
        "grid": "location.hash = ''",
        "single": "document.querySelector('.tile').click()",
        "help": "document.getElementById('help').showModal()",
    }
    found: dict[str, list[str]] = {}
    for dark in (False, True):
        browser.size(1280, 900, dark=dark)
        for view, script in views.items():
            browser.run(script)
            browser.run("new Promise((done) => setTimeout(done, 300))")
            script = "axe.run(document, {resultTypes: ['violations']}).then((result) => result.violations"
            script += ".map((one) => `${one.impact} ${one.id}: ${one.nodes[0].html.slice(0, 200)}`))"
            found[f"{view} {dark}"] = browser.run(script)
        browser.run("document.getElementById('help').close()")
        browser.run("location.hash = ''")
    assert not [line for lines in found.values() for line in lines if line.startswith(("serious", "critical"))]
    assert not [error for error in browser.errors if "412" not in error], "conflicts are in the log of the browser"
