"""The page of an evaluation: table, charts, words and gallery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path

from captioner.data.told import counted
from captioner.evaluation.evaluate import Evaluation
from captioner.evaluation.report.charts import bars, histogram
from captioner.evaluation.report.confusions import FUNCTION_WORDS, missed_words, words_in_vain
from captioner.evaluation.report.curves import curves
from captioner.evaluation.report.frame import frame, images, section
from captioner.evaluation.report.gallery import cards, chosen
from captioner.evaluation.tables import TITLES, absent, columns, rows, statements
from captioner.metrics.words import splitter

LINKS = {"scores": "Scores", "plots": "Plots", "confusions": "Words", "curves": "Training", "gallery": "Images"}


def page(found: Evaluation, title: str, *, log: Path | None = None) -> str:
    """The whole report as one HTML document. ``log``: the ``log.jsonl`` of the model's run, for its curves."""
    split = splitter(found.judgement.words)
    said = [split(caption) for caption in found.captions]
    people = [[split(caption) for caption in sample.captions] for sample in found.judgement.samples]
    scroll = '<div class="scroll" tabindex="0" role="region" aria-label="Table of scores">'
    told = "".join(f"<li>{escape(line)}</li>" for line in statements(found))
    parts = {
        "scores": section(
            "scores", "Scores", f'{scroll}{_table(found, title)}</div>\n<ul class="statements">{told}</ul>'
        ),
        "plots": section("plots", "Plots", f'<div class="charts">{_charts(found, said, people)}</div>'),
        "confusions": section("confusions", "Words that matter", _confusions(said, people)),
    }
    if log is not None:
        drawn = curves(log) or "<p>Its log holds no figure more than once.</p>"
        parts["curves"] = section("curves", "How it was trained", f'<div class="charts">{drawn}</div>')
    parts["gallery"] = _gallery(found, said)
    return frame(title, {name: LINKS[name] for name in parts}, "\n".join(parts.values()))


def _gallery(found: Evaluation, said: Sequence[Sequence[str]]) -> str:
    places = chosen(found)
    status = counted(len(places), "image")
    if len(places) < len(said):
        status += f" of {len(said)}: the worst, best, most doubtful and longest"
    orders = {"worst": "worst first", "best": "best first"}
    orders |= {"doubtful": "most doubtful first"} if found.of_model is not None else {}
    orders |= {"longest": "longest first", "data": "as in the data"}
    flags = {"zero": "CIDEr-D below 10", "repeats": "captions that repeat themselves", "empty": "empty captions"}
    return images(cards(found, places, said), status, orders=orders, flags=flags)


def _table(found: Evaluation, title: str) -> str:
    judgement = found.judgement
    names = columns(judgement)
    head = "".join(f'<th scope="col">{escape(TITLES[name])}</th>' for name in names)
    body = []
    for row, scores in rows(judgement, title).items():
        cells = []
        for name in names:
            if name in scores.values:
                inside = scores.intervals[name]
                cells.append(
                    f"<td>{scores[name]:.1f}<small>{inside.low:.1f}&thinsp;to&thinsp;{inside.high:.1f}</small></td>"
                )
            else:
                cells.append(f"<td><small>{escape(absent(judgement, name))}</small></td>")
        body.append(f'<tr><th scope="row">{escape(row)}</th>{"".join(cells)}</tr>')
    return (
        "<table><caption>Scores from 0 to 100 (CIDEr-D may pass it), and below each its 95 % interval over images"
        f'</caption><thead><tr><th scope="col">captions</th>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    )


def _charts(found: Evaluation, said: Sequence[Sequence[str]], people: Sequence[Sequence[Sequence[str]]]) -> str:
    control = found.judgement.shuffled.per_image
    scores = histogram(found.model.per_image, control, ("these captions", "captions of other images"), width=20)
    lengths = histogram(
        [len(caption) for caption in said],
        [len(reference) for group in people for reference in group],
        ("these captions", "people"),
        width=1,
    )
    return (
        bars(scores, title="CIDEr-D of each image", x="CIDEr-D", y="% of images", width=20)
        + bars(lengths, title="Words in a caption", x="words", y="% of captions", width=1)
        + _common(said, [reference for group in people for reference in group])
    )


def _common(said: Sequence[Sequence[str]], people: Sequence[Sequence[str]], most: int = 10) -> str:
    """The words said most, with the share of captions that say them, beside people's."""
    ours = Counter(word for caption in said for word in set(caption) - FUNCTION_WORDS)
    theirs = Counter(word for caption in people for word in set(caption) - FUNCTION_WORDS)
    rows = []
    for word, times in ours.most_common(most):
        share, other = 100 * times / len(said), 100 * theirs[word] / max(1, len(people))
        rows.append(
            f'<tr><th scope="row">{escape(word)}</th><td>{share:.1f} %</td><td>{other:.1f} %</td>'
            f'<td aria-hidden="true"><i class="bar a" style="width:{min(100.0, 2 * share):.1f}%"></i>'
            f'<i class="bar b" style="width:{min(100.0, 2 * other):.1f}%"></i></td></tr>'
        )
    return (
        '<div class="chart"><table class="words"><caption>Words said most (share of captions)</caption><thead><tr>'
        '<th scope="col">word</th><th scope="col">here</th><th scope="col">people</th><td aria-hidden="true"></td></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _confusions(said: Sequence[Sequence[str]], people: Sequence[Sequence[Sequence[str]]]) -> str:
    missed, vain = missed_words(said, people), words_in_vain(said, people)
    if not missed and not vain:
        return "<p>No word is missed, or said in vain, on three images or more.</p>"
    first = "".join(
        f'<tr><th scope="row">{escape(one.word)}</th><td>{one.missed} of {one.people}</td>'
        f"<td>{', '.join(f'{escape(word)} <small>({n})</small>' for word, n in one.instead) or '–'}</td></tr>"
        for one in missed
    )
    second = "".join(
        f'<tr><th scope="row">{escape(one.word)}</th><td>{one.alone} of {one.said}</td></tr>' for one in vain
    )
    return (
        '<div class="pair">'
        + _scrolled("Missed words", "said by people, not here", ["word", "images", "said instead"], first)
        + _scrolled("Words in vain", "said here, by nobody else", ["word", "captions"], second)
        + "</div>"
    )


def _scrolled(name: str, what: str, heads: Sequence[str], body: str) -> str:
    """A table that scrolls by itself where the screen is narrow, also by keyboard."""
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}"><table>'
        f"<caption>{escape(name)}: {escape(what)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )
