"""Charts: shares of the same bins, counts that lose no value, and escaped names."""

from __future__ import annotations

from captioner.html.charts import Series, bars, counts, histogram, lines


def test_histograms_are_shares() -> None:
    first, second = histogram([0, 5, 39, 1e9], [20], ("ours", "theirs"), width=20)
    assert [y for _, y in first.points[:2]] == [50, 25]
    assert first.points[-1] == (20 * 39, 25)  # values beyond the last bin count in it
    assert [y for _, y in second.points[:3]] == [0, 100, 0]
    drawn = bars([first, second], title="a < b", x="x", y="%", width=20)
    assert "a &lt; b" in drawn
    assert drawn.count("<rect") == 40
    assert "nan" not in bars([], title="", x="", y="", width=1) + lines([], title="", x="", y="")
    flat = lines([Series(name="s", points=((1, 2), (2, 2)))], title="", x="", y="")
    assert "nan" not in flat


def test_many_values_share_bins_and_lose_none() -> None:
    svg = counts(dict.fromkeys(range(7, 207), 2), "n", most=30)
    assert svg.count("<rect") == 29  # bins of 7 values
    assert "7–13: 14" in svg
    assert "203–209: 8" in svg
    assert counts({}, "n") == ""
    assert "a &amp; b: 3" in counts({"a & b": 3}, "n")
