"""The images of a report as thumbnails inside the page, with their captions and references."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape

from captioner.data.images import ImageSource, open_image
from captioner.data.messages import counted
from captioner.errors import ImageError
from captioner.evaluation.evaluate import Evaluation
from captioner.metrics.diversity import repeats

MOST = 1000  # images in a page: about 9 MB
SIDE = 176  # pixels of a thumbnail's longer side

Picture = tuple[str, int, int]  # a data URI, width and height in pixels


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


def cards(evaluation: Evaluation, places: Sequence[int], words: Sequence[Sequence[str]]) -> str:
    """Return a list item for each image; its data attributes hold the keys for sorting and filtering."""
    samples = evaluation.judgement.samples
    with ThreadPoolExecutor(max_workers=4) as pool:
        pictures = list(pool.map(lambda n: thumbnail(samples[n].image), places))
    return "\n".join(
        _card(evaluation, place, words[place], picture) for place, picture in zip(places, pictures, strict=True)
    )


def thumbnail(read: Callable[[], ImageSource]) -> Picture | None:
    """Return a small JPEG of the image from ``read``, with its width and height; None for an unreadable image."""
    try:
        image = open_image(read(), min_side=SIDE)
    except ImageError:
        return None
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=70, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}", *image.size


def _card(evaluation: Evaluation, place: int, words: Sequence[str], picture: Picture | None) -> str:
    sample, caption = evaluation.judgement.samples[place], evaluation.captions[place]
    score = evaluation.model.per_image[place]
    confidence = evaluation.of_model.confidences[place] if evaluation.of_model else None
    line = f"CIDEr-D {score:.0f}" + ("" if confidence is None else f", confidence {100 * confidence:.0f} %")
    people = "".join(f"<li>{escape(reference)}</li>" for reference in sample.captions)
    return card(
        caption,
        words,
        shown(picture, f"Photo, as a person describes it: {sample.captions[0]}"),
        name=sample.name,
        told=line,
        figures={"score": score, **({} if confidence is None else {"sure": confidence})},
        more=f"<details><summary>{counted(len(sample.captions), 'reference')}</summary><ul>{people}</ul></details>",
    )


def shown(picture: Picture | None, description: str, *, gone: str = "This photo cannot be read.") -> str:
    """Return a thumbnail with its ``description`` as alternative text, or the text ``gone`` without a picture."""
    if picture is None:
        return f'<p class="gone">{escape(gone)}</p>'
    source, width, height = picture
    alt = escape(description)
    return f'<img src="{source}" width="{width}" height="{height}" alt="{alt}" loading="lazy" decoding="async">'


def card(
    caption: str,
    words: Sequence[str],
    picture: str,
    *,
    name: str,
    told: str,
    figures: Mapping[str, float],
    more: str = "",
) -> str:
    """Return the list item of an image; the page sorts and filters by ``figures``, words and flags.

    ``picture`` and ``more`` are HTML, all other arguments are text.
    """
    flags = " ".join(flag for flag, applies in (("repeats", repeats(words)), ("empty", not words)) if applies)
    data = f'data-length="{len(words)}" data-flags="{flags}"'
    data += "".join(f' data-{figure}="{value:.4f}"' for figure, value in figures.items())
    return (
        f'<li class="card" {data}><article>{picture}<div><p class="said">{escape(caption) or "<em>nothing</em>"}</p>'
        f'<p class="score">{escape(told)}</p>{more}'
        f'<p class="name">{escape(name)}</p></div></article></li>'
    )
