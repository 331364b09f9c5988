"""The page for browsers in Chromium: the captions of Python, also without a server, and every key and label."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captioner.pipelines import load

from ..reviewing.browser import CHROMIUM, Browser

BUILD = Path(__file__).resolve().parents[2] / "examples" / "browser" / "build.sh"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="no npm"),
]


@pytest.fixture(scope="module")
def site(bilingual: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the page with a tiny captioner; npm downloads two packages unless CAPTIONER_VENDOR names a folder."""
    out = tmp_path_factory.mktemp("page") / "site"
    done = subprocess.run(
        ["sh", str(BUILD), str(out), str(bilingual)],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and "npm" in done.stderr:
        pytest.skip(f"npm downloads nothing here: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return out


GIVEN = """
(async () => {
  const canvas = new OffscreenCanvas(40, 30), context = canvas.getContext("2d");
  context.fillStyle = "#f00";
  context.fillRect(0, 0, 40, 30);
  const data = new DataTransfer();
  data.items.add(new File([await canvas.convertToBlob()], "red.png", { type: "image/png" }));
  dispatchEvent(%s);
})()
"""
"""Give a red photo to the page, as an event."""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(site: Path) -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    browser = Browser(tmp_path)
    yield browser
    browser.close()


def give(browser: Browser, files: list[Path]) -> None:
    """Choose files in the page's input."""
    root = browser.send("DOM.getDocument")["root"]["nodeId"]
    node = browser.send("DOM.querySelector", nodeId=root, selector="#files")["nodeId"]
    browser.send("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])


def captions(browser: Browser, count: int) -> list[str]:
    browser.wait(f"document.querySelectorAll('.caption:not(.waiting)').length === {count}")
    found: list[str] = browser.run("[...document.querySelectorAll('.caption')].map((one) => one.textContent)")
    return found


def test_page(site: Path, server: http.server.ThreadingHTTPServer, browser: Browser, toy: Path, tmp_path: Path) -> None:
    photos = sorted(toy.rglob("*.png"))[:6]
    tall = tmp_path / "tall.png"
    Image.open(photos[0]).resize((100, 300)).save(tall)
    photos.append(tall)
    broken = tmp_path / "=broken.jpg"
    broken.write_text("no photo")
    address = f"http://127.0.0.1:{server.server_port}/"
    browser.open(address)
    browser.wait("document.documentElement.dataset.model")
    assert browser.run("document.documentElement.dataset.model") == "ready", browser.run(
        "document.getElementById('status').textContent"
    )
    give(browser, photos)
    found = captions(browser, len(photos))
    pipe = load(site / "model", precision="int8")
    wanted = [pipe.caption(str(photo), beams=1).text for photo in photos]
    assert found == wanted
    assert len(set(wanted)) > 2
    assert browser.run("[...document.querySelectorAll('#photos img')].map((one) => one.alt)") == wanted
    assert browser.run("document.getElementById('status').textContent") == f"All {len(photos)} photos captioned"
    give(browser, [broken])
    assert captions(browser, len(photos) + 1)[-1].endswith("try another one.")
    names = browser.run(
        "[...document.querySelectorAll('.copy:not([hidden])')].map((b) => b.getAttribute('aria-label'))"
    )
    assert names == [f"Copy the caption of {photo.name}" for photo in photos]
    table = browser.run("import('./app.js').then((page) => page.csvOf([{ image: '=a\"b', caption: 'c, d' }]))")
    assert table == 'image,caption\r\n"\'=a""b","c, d"\r\n'
    for event in (
        "new DragEvent('drop', { dataTransfer: data })",
        "new ClipboardEvent('paste', { clipboardData: data })",
    ):
        browser.run(GIVEN % event)
    more = captions(browser, len(photos) + 3)[-2:]
    assert more == [pipe.caption(Image.new("RGB", (40, 30), (255, 0, 0)), beams=1).text] * 2
    browser.size(360, 700, dark=True)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    assert not browser.errors
    server.shutdown()
    server.server_close()
    browser.open(address)  # without a server
    browser.wait("document.documentElement.dataset.model === 'ready'")
    assert browser.run("crossOriginIsolated") is True
    give(browser, photos[:3])
    assert captions(browser, 3) == wanted[:3]
    browser.run("document.getElementById('clear').focus()")
    browser.press("Enter")
    browser.wait("document.querySelectorAll('.photo').length === 0 && document.activeElement.id === 'files'")
    assert not browser.errors
