"""The page of an evaluation: table, charts, words and gallery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path

from captioner.data.messages import counted
from captioner.evaluation.evaluate import Evaluation
from captioner.evaluation.report.confusions import missed_words, unsupported_words
from captioner.evaluation.report.curves import curves
from captioner.evaluation.tables import TITLES, absent, columns, rows, statements
from captioner.html.charts import bars, histogram
from captioner.html.frame import Markup, Section, bullets, folded, table
from captioner.html.gallery import MOST, card, gallery, gallery_page
from captioner.html.pictures import Picture, tag, thumbnails
from captioner.metrics.function_words import FUNCTION_WORDS
from captioner.metrics.words import splitter


def page(evaluation: Evaluation, title: str, *, log: Path | None = None) -> str:
    """Return the whole report as one HTML document. ``log``: the ``log.jsonl`` of the model's run, for its curves."""
    split = splitter(evaluation.judgement.words)
    captions = [split(caption) for caption in evaluation.captions]
    people = [[split(caption) for caption in sample.captions] for sample in evaluation.judgement.samples]
    scores = f"{_table(evaluation, title)}\n{bullets(statements(evaluation))}"
    plots = f'<div class="charts">{_charts(evaluation, captions, people)}</div>'
    words = _confusions(captions, people)
    parts = [
        Section(name="scores", link="Scores", title="Scores", body=scores),
        Section(name="plots", link="Plots", title="Plots", body=plots),
        Section(name="confusions", link="Words", title="Missed and unsupported words", body=words),
    ]
    if log is not None:
        drawn = curves(log) or "<p>The log holds no figure more than once.</p>"
        drawn = f'<div class="charts">{drawn}</div>'
        parts.append(Section(name="curves", link="Training", title="Training curves", body=drawn))
    return gallery_page(title, parts, _gallery(evaluation, captions))


def _gallery(evaluation: Evaluation, captions: Sequence[Sequence[str]]) -> Section:
    places = chosen(evaluation)
    status = counted(len(places), "image")
    if len(places) < len(captions):
        status += f" of {len(captions)}: the worst, best, most doubtful and longest"
    orders = {"worst": "worst first", "best": "best first"}
    orders |= {"doubtful": "most doubtful first"} if evaluation.of_model is not None else {}
    orders |= {"longest": "longest first", "data": "order of the data"}
    flags = {"zero": "CIDEr-D below 10", "repeats": "captions that repeat themselves", "empty": "empty captions"}
    return gallery(_cards(evaluation, places, captions), status, orders=orders, flags=flags)


def chosen(evaluation: Evaluation, most: int = MOST) -> list[int]:
    """Return the indices of the shown images: all, or the worst, best, most doubtful and longest, a quarter each."""
    images = len(evaluation.captions)
    if images <= most:
        return list(range(images))
    scores = evaluation.model.per_image
    confidences = evaluation.of_model.confidences if evaluation.of_model else scores
    lengths = evaluation.judgement.of_captions.metrics[
        "length"
    ].per_image.tolist()  # lengths in words, like in the page's order
    orders: list[Sequence[int]] = [
        sorted(range(images), key=lambda n: scores[n]),
        sorted(range(images), key=lambda n: -scores[n]),
        sorted(range(images), key=lambda n: confidences[n]),
        sorted(range(images), key=lambda n: -lengths[n]),
    ]
    return sorted({n for order in orders for n in order[: most // 4]})


def _cards(evaluation: Evaluation, places: Sequence[int], words: Sequence[Sequence[str]]) -> list[str]:
    """Return a list item for each image; its data attributes hold the keys for sorting and filtering."""
    pictures = thumbnails(evaluation.judgement.samples[place].image for place in places)
    return [_card(evaluation, place, words[place], picture) for place, picture in zip(places, pictures, strict=True)]


def _card(evaluation: Evaluation, place: int, words: Sequence[str], picture: Picture | None) -> str:
    sample, score = evaluation.judgement.samples[place], evaluation.model.per_image[place]
    confidence = evaluation.of_model.confidences[place] if evaluation.of_model else None
    details = f"CIDEr-D {score:.0f}" + ("" if confidence is None else f", confidence {100 * confidence:.0f} %")
    return card(
        evaluation.captions[place],
        words,
        tag(picture, f"Photo, as a person describes it: {sample.captions[0]}"),
        name=sample.name,
        details=details,
        figures={"score": score, **({} if confidence is None else {"sure": confidence})},
        more=folded(counted(len(sample.captions), "reference"), sample.captions),
    )


def _table(evaluation: Evaluation, title: str) -> Markup:
    judgement = evaluation.judgement
    names = columns(judgement)
    body: list[list[str]] = []
    for row, scores in rows(judgement, title).items():
        cells = [row]
        for name in names:
            if name in scores.values:
                low, high = scores.intervals[name].low, scores.intervals[name].high
                cells.append(Markup(f"{scores[name]:.1f}<small>{low:.1f}&thinsp;to&thinsp;{high:.1f}</small>"))
            else:
                cells.append(Markup(f"<small>{escape(absent(judgement, name))}</small>"))
        body.append(cells)
    caption = "Scores from 0 to 100 (CIDEr-D may exceed it), each above its 95 % interval over images"
    return table(caption, ["captions", *(TITLES[name] for name in names)], body, label="Table of scores")


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
    instead = [
        Markup(", ".join(f"{escape(word)} <small>({n})</small>" for word, n in row.instead) or "–") for row in missed
    ]
    used = table(
        "Missed words: used by people, not by these captions",
        ["word", "images", "used instead"],
        [(row.word, f"{row.missed} of {row.people}", words) for row, words in zip(missed, instead, strict=True)],
        columns="lrl",
        label="Missed words",
    )
    unused = table(
        "Unsupported words: used by these captions, in no reference",
        ["word", "captions"],
        [(row.word, f"{row.alone} of {row.used}") for row in vain],
        label="Unsupported words",
    )
    return f'<div class="pair">{used}{unused}</div>'
