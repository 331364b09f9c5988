"""The page of an evaluation: table, charts, words and gallery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path

from captioner.data.messages import counted
from captioner.evaluation.evaluate import Evaluation
from captioner.evaluation.report.charts import bars, histogram
from captioner.evaluation.report.confusions import missed_words, unsupported_words
from captioner.evaluation.report.curves import curves
from captioner.evaluation.report.frame import frame, images, section
from captioner.evaluation.report.gallery import cards, chosen
from captioner.evaluation.tables import TITLES, absent, columns, rows, statements
from captioner.metrics.function_words import FUNCTION_WORDS
from captioner.metrics.words import splitter

LINKS = {"scores": "Scores", "plots": "Plots", "confusions": "Words", "curves": "Training", "gallery": "Images"}
MISSED_HEADS = ["word", "images", "used instead"]


def page(evaluation: Evaluation, title: str, *, log: Path | None = None) -> str:
    """Return the whole report as one HTML document. ``log``: the ``log.jsonl`` of the model's run, for its curves."""
    split = splitter(evaluation.judgement.words)
    captions = [split(caption) for caption in evaluation.captions]
    people = [[split(caption) for caption in sample.captions] for sample in evaluation.judgement.samples]
    scroll = '<div class="scroll" tabindex="0" role="region" aria-label="Table of scores">'
    items = "".join(f"<li>{escape(line)}</li>" for line in statements(evaluation))
    parts = {
        "scores": section(
            "scores", "Scores", f'{scroll}{_table(evaluation, title)}</div>\n<ul class="statements">{items}</ul>'
        ),
        "plots": section("plots", "Plots", f'<div class="charts">{_charts(evaluation, captions, people)}</div>'),
        "confusions": section("confusions", "Missed and unsupported words", _confusions(captions, people)),
    }
    if log is not None:
        drawn = curves(log) or "<p>The log holds no figure more than once.</p>"
        parts["curves"] = section("curves", "Training curves", f'<div class="charts">{drawn}</div>')
    parts["gallery"] = _gallery(evaluation, captions)
    return frame(title, {name: LINKS[name] for name in parts}, "\n".join(parts.values()))


def _gallery(evaluation: Evaluation, captions: Sequence[Sequence[str]]) -> str:
    places = chosen(evaluation)
    status = counted(len(places), "image")
    if len(places) < len(captions):
        status += f" of {len(captions)}: the worst, best, most doubtful and longest"
    orders = {"worst": "worst first", "best": "best first"}
    orders |= {"doubtful": "most doubtful first"} if evaluation.of_model is not None else {}
    orders |= {"longest": "longest first", "data": "order of the data"}
    flags = {"zero": "CIDEr-D below 10", "repeats": "captions that repeat themselves", "empty": "empty captions"}
    return images(cards(evaluation, places, captions), status, orders=orders, flags=flags)


def _table(evaluation: Evaluation, title: str) -> str:
    judgement = evaluation.judgement
    names = columns(judgement)
    head = "".join(f'<th scope="col">{escape(TITLES[name])}</th>' for name in names)
    body = []
    for row, scores in rows(judgement, title).items():
        cells = []
        for name in names:
            if name in scores.values:
                interval = scores.intervals[name]
                cells.append(
                    f"<td>{scores[name]:.1f}<small>{interval.low:.1f}&thinsp;to&thinsp;{interval.high:.1f}</small></td>"
                )
            else:
                cells.append(f"<td><small>{escape(absent(judgement, name))}</small></td>")
        body.append(f'<tr><th scope="row">{escape(row)}</th>{"".join(cells)}</tr>')
    return (
        "<table><caption>Scores from 0 to 100 (CIDEr-D may exceed it), each above its 95 % interval over images"
        f'</caption><thead><tr><th scope="col">captions</th>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    )


def _charts(
    evaluation: Evaluation, captions: Sequence[Sequence[str]], people: Sequence[Sequence[Sequence[str]]]
) -> str:
    control = evaluation.judgement.shuffled.per_image
    scores = histogram(evaluation.model.per_image, control, ("these captions", "captions of other images"), width=20)
    lengths = histogram(
        [len(caption) for caption in captions],
        [len(reference) for group in people for reference in group],
        ("these captions", "people"),
        width=1,
    )
    return (
        bars(scores, title="CIDEr-D of each image", x="CIDEr-D", y="% of images", width=20)
        + bars(lengths, title="Words in a caption", x="words", y="% of captions", width=1)
        + _common(captions, [reference for group in people for reference in group])
    )


def _common(captions: Sequence[Sequence[str]], people: Sequence[Sequence[str]], most: int = 10) -> str:
    """Return a table of the most frequent words with their share of captions, beside people's."""
    own_counts = Counter(word for caption in captions for word in set(caption) - FUNCTION_WORDS)
    people_counts = Counter(word for caption in people for word in set(caption) - FUNCTION_WORDS)
    rows = []
    for word, times in own_counts.most_common(most):
        share, other = 100 * times / len(captions), 100 * people_counts[word] / max(1, len(people))
        rows.append(
            f'<tr><th scope="row">{escape(word)}</th><td>{share:.1f} %</td><td>{other:.1f} %</td>'
            f'<td aria-hidden="true"><i class="bar a" style="width:{min(100.0, 2 * share):.1f}%"></i>'
            f'<i class="bar b" style="width:{min(100.0, 2 * other):.1f}%"></i></td></tr>'
        )
    return (
        '<div class="chart"><table class="words"><caption>Most frequent words (share of captions)</caption><thead><tr>'
        '<th scope="col">word</th><th scope="col">here</th><th scope="col">people</th><td aria-hidden="true"></td></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _confusions(captions: Sequence[Sequence[str]], people: Sequence[Sequence[Sequence[str]]]) -> str:
    missed, vain = missed_words(captions, people), unsupported_words(captions, people)
    if not missed and not vain:
        return "<p>No word is missed or unsupported on three images or more.</p>"
    missed_rows = "".join(
        f'<tr><th scope="row">{escape(row.word)}</th><td>{row.missed} of {row.people}</td>'
        f"<td>{', '.join(f'{escape(word)} <small>({n})</small>' for word, n in row.instead) or '–'}</td></tr>"
        for row in missed
    )
    vain_rows = "".join(
        f'<tr><th scope="row">{escape(row.word)}</th><td>{row.alone} of {row.used}</td></tr>' for row in vain
    )
    return (
        '<div class="pair">'
        + _scrolled("Missed words", "used by people, not by these captions", MISSED_HEADS, missed_rows)
        + _scrolled("Unsupported words", "used by these captions, in no reference", ["word", "captions"], vain_rows)
        + "</div>"
    )


def _scrolled(name: str, description: str, heads: Sequence[str], body: str) -> str:
    """Return a table that scrolls on a narrow screen, also by keyboard."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}"><table>'
        f"<caption>{escape(name)}: {escape(description)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )
