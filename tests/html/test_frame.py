"""The frame: complete, without network, with escaped texts, and scripts only where a page has one."""

from __future__ import annotations

import pytest

from captioner.html.frame import Markup, Section, asset, bullets, document, folded, html_of, table

from .outline import Outline

EVIL = '</title><script>x</script> & "y"'


def test_a_page_without_a_script_runs_none() -> None:
    text = document(EVIL, [Markup("<p>1</p>")])
    assert not Outline(text).all("script")
    assert "script-src" not in text
    assert "default-src 'none'" in text
    assert text.startswith("<!doctype html>")


def test_a_page_has_its_parts_in_order() -> None:
    parts = [Section(name="one", title=EVIL, body="<p>1</p>", link="One"), Section(name="two", title="2", body="")]
    text = document("title", parts, heading="heading", script='"use strict";')
    outline = Outline(text)
    assert outline.open == []
    assert [section["id"] for section in outline.all("section")] == ["one", "two"]
    assert [link["href"] for link in outline.all("a")] == ["#one", "#one"]  # to skip, and in the navigation
    assert len(outline.all("script")) == len(outline.all("main")) == len(outline.all("nav")) == 1
    assert "<title>title</title>" in text
    assert "<h1>heading</h1>" in text
    assert not Outline(document("title", parts[1:])).all("nav")


def test_cells_are_escaped_and_aligned() -> None:
    text = table("a & b", ["name", "n", "note"], [("<i>", 3, Markup("<b>x</b>"))], columns="lrl")
    assert "<caption>a &amp; b</caption>" in text
    assert '<th scope="row" class="l">&lt;i&gt;</th><td class="r">3</td><td class="l"><b>x</b></td>' in text
    assert Outline(text).open == []
    with pytest.raises(ValueError, match="zip"):
        table("a", ["name", "n"], [("x",)])


def test_lists_are_escaped() -> None:
    assert bullets(["<", Markup("<b>")]) == '<ul class="statements"><li>&lt;</li><li><b></li></ul>'
    assert "<summary>1 &amp; 2</summary><ul><li>&lt;</li></ul>" in folded("1 & 2", ["<"])
    assert html_of(html_of(Markup("<"))) == "<"


def test_the_style_has_both_colour_schemes_and_needs_no_network() -> None:
    style = asset("page.css")
    assert "prefers-color-scheme: dark" in style
    assert style.count("{") == style.count("}")
    assert not [word for word in ("url(", "@import", "http") if word in style]
