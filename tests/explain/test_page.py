"""The page and the strip: complete, self-contained, and safe for any words."""

from __future__ import annotations

import html as escapes
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.checkpoint import Checkpoint
from captioner.explain import strip as strips
from captioner.explain.explain import Explanation, explain
from captioner.explain.page import page, where
from captioner.explain.strip import TILE, strip

GIVEN = "a red dog runs on the grass"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def found(make: Callable[..., Checkpoint], photo: Image.Image) -> Explanation:
    return explain(make(), photo, caption=GIVEN)


class Tags(HTMLParser):
    """A parser that keeps every tag with its attributes, and the text of each button."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.buttons: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "button":
            self.buttons.append("")

    def handle_data(self, data: str) -> None:
        if self.buttons and self.tags[-1][0] == "button":
            self.buttons[-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_every_word_is_a_button_that_says_where(found: Explanation) -> None:
    html = page(found)
    tags = Tags(html)
    assert tags.buttons == GIVEN.split()
    for i, button in enumerate(tags.all("button")):
        assert button["type"] == "button"
        assert f"id='{button['aria-describedby']}'>looked {where(found.maps[i])}; probability" in html
    assert len(tags.all("tr")) == 1 + 7
    assert [attributes["alt"] for attributes in tags.all("img")] == [GIVEN, ""]
    assert [attributes["value"] for attributes in tags.all("input")] == ["maps", "global_maps", "local_maps"]
    assert tags.all("html") == [{"lang": "en"}]


def test_nothing_comes_from_the_network(found: Explanation) -> None:
    html = page(found)
    assert not re.search(r"https?:|url\(|@import|<link|{{", html)
    assert "default-src 'none'" in html
    assert all(str(attributes["src"]).startswith("data:image/") for attributes in Tags(html).all("img")[:1])


def test_one_kind_of_read_leaves_no_choice(make: Callable[..., Checkpoint], photo: Image.Image) -> None:
    html = page(explain(make("G"), photo, caption=GIVEN))
    assert not Tags(html).all("input")
    assert "global share" not in html
    assert '"aims": []' in html


def test_words_cannot_leave_their_place(found: Explanation) -> None:
    evil = '</script><img src=x onerror="alert(1)">{{data}}'
    html = page(replace(found, words=(evil, *found.words[1:]), caption=evil))
    tags = Tags(html)
    assert len(tags.all("img")) == 2
    assert len(tags.all("script")) == 2
    assert tags.all("img")[0]["alt"] == evil


@pytest.mark.parametrize(
    ("spot", "words"),
    [
        ((0, 0), "most at the upper left (100%)"),
        ((4, 8), "most at the centre (100%)"),
        ((8, 16), "most at the lower right (100%)"),
        (None, "all over the photo"),
    ],
)
def test_where_in_words(spot: tuple[int, int] | None, words: str) -> None:
    values = np.full((9, 17), 1 / 153) if spot is None else np.zeros((9, 17))
    if spot is not None:
        values[spot] = 1
    assert where(values) == words
    if spot is None:
        assert where(np.full((1, 1), 1.0)) == "most at the centre (100%)"


def test_the_strip_has_a_picture_a_word(found: Explanation) -> None:
    spot = np.zeros((7, 3, 3))
    spot[:, 0, 0] = 1
    sheet = np.asarray(strip(replace(found, maps=spot, centres=None, photo=np.full((160, 240, 3), 200, np.uint8))))
    height, width = 160 + 40 + 8, TILE + 8
    assert sheet.shape == (8 + 2 * height, 8 + 6 * width, 3)
    for i in range(1, 8):
        top, left = 8 + i // 6 * height, 8 + i % 6 * width
        tile = sheet[top : top + 160, left : left + 240]
        assert tile[10, 10].min() > 190
        assert tile[150, 230].max() < 60
    assert (sheet[8 : 8 + 160, 8 : 8 + 240] == 200).all()  # the photo itself
    assert (sheet[8 + height + 160 :, 8 + 2 * width :] == 255).all()  # nothing after the last word


def labelled(found: Explanation, *words: str) -> bytes:
    return strip(replace(found, words=(*words, *found.words[len(words) :]))).tobytes()


def test_words_that_no_font_writes_are_numbered(found: Explanation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "_system_fonts", lambda: ("/no/font.ttf",))
    with pytest.warns(UserWarning, match=r"^no font of this machine can write 一只, 狗, so .* save the \.html"):
        numbered = labelled(found, "一只", "dog", "狗")
    assert numbered == labelled(found, "word 1", "dog", "word 3")


def test_a_system_font_writes_other_letters(found: Explanation, monkeypatch: pytest.MonkeyPatch) -> None:
    if not strips._system_fonts():
        pytest.skip("no such font on this machine")
    assert labelled(found, "Ж") not in (labelled(found, "word 1"), labelled(found, "П"))
    monkeypatch.setattr(strips, "FOLDERS", (str(Path(strips._system_fonts()[0]).parent),))
    assert strips._system_fonts.__wrapped__()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_lights_the_word_in_focus(found: Explanation, tmp_path: Path) -> None:
    """A script in a real browser checks focus, the choice of attention, and Escape."""
    seen = tmp_path / "x.html"
    act = """<script>
      const log = [];
      const state = () => log.push([veil.hidden, aim.hidden, veil.src === "" ? "" : kinds(veil.src), said.textContent]);
      const kinds = src => Object.keys(veils).find(name => veils[name].includes(src)) + veils.maps.indexOf(src);
      // a page that has not got the window's focus yet moves it without telling anyone
      const focus = word => { word.focus(); if (!document.hasFocus()) word.dispatchEvent(new FocusEvent("focus")) };
      onerror = message => log.push(message);
      state();
      focus(words[2]); state();
      document.querySelector("input[value=global_maps]").click(); state();
      document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" })); state();
      words[1].click(); words[1].blur(); state();
      const out = document.createElement("pre"); out.id = "log"; out.textContent = JSON.stringify(log);
      document.body.append(out);
    </script></body>"""
    seen.write_text(page(found).replace("</body>", act), encoding="utf-8")
    options = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    command = [str(CHROMIUM), *options.split(), f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run([*command, seen.as_uri()], capture_output=True, text=True, timeout=300, check=True)
    logged = re.search(r'<pre id="log">(.*?)</pre>', done.stdout, re.DOTALL)
    assert logged, done.stdout[-2000:]
    start, focused, chosen, escaped, clicked = json.loads(escapes.unescape(logged[1]))
    assert start[:2] == escaped[:2] == [True, True]
    assert focused[:3] == [False, False, "maps2"]
    assert focused[3].startswith("dog: looked ")
    assert chosen[:3] == [False, True, "global_maps-1"]  # no ring: it is the local read's
    assert clicked[:2] == [False, True]
    assert clicked[3].startswith("red: looked ")
