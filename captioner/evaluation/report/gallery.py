"""The images of a report, small and inside the page, with what people and the captions say of each."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape

from captioner.data.images import ImageSource, open_image
from captioner.errors import ImageError
from captioner.evaluation.evaluate import Evaluation
from captioner.metrics.diversity import repeats

MOST = 1000  # images in a page: about 9 MB
SIDE = 176  # pixels of a thumbnail's longer side

Picture = tuple[str, int, int]  # a data URI, width and height in pixels


def chosen(found: Evaluation, most: int = MOST) -> list[int]:
    """Which images are shown: all, or the worst, the best, the most doubtful and the longest, a quarter each."""
    images = len(found.captions)
    if images <= most:
        return list(range(images))
    scores = found.model.per_image
    sure = found.of_model.confidences if found.of_model else scores
    lengths = found.judgement.of_captions.metrics["length"].per_image.tolist()  # in words, as the page sorts them
    orders: list[Sequence[int]] = [
        sorted(range(images), key=lambda n: scores[n]),
        sorted(range(images), key=lambda n: -scores[n]),
        sorted(range(images), key=lambda n: sure[n]),
        sorted(range(images), key=lambda n: -lengths[n]),
    ]
    return sorted({n for order in orders for n in order[: most // 4]})


def cards(found: Evaluation, places: Sequence[int], words: Sequence[Sequence[str]]) -> str:
    """A list item for each image; what sorts and filters it stands in its data attributes."""
    samples = found.judgement.samples
    with ThreadPoolExecutor(max_workers=4) as pool:
        pictures = list(pool.map(lambda n: thumbnail(samples[n].image), places))
    return "\n".join(
        _card(found, place, words[place], picture) for place, picture in zip(places, pictures, strict=True)
    )


def thumbnail(read: Callable[[], ImageSource]) -> Picture | None:
    """A small JPEG of what ``read`` gives, with its width and height; None for an image that cannot be read."""
    try:
        image = open_image(read(), min_side=SIDE)
    except ImageError:
        return None
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=70, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}", *image.size


def _card(found: Evaluation, place: int, words: Sequence[str], picture: Picture | None) -> str:
    sample, caption = found.judgement.samples[place], found.captions[place]
    score = found.model.per_image[place]
    sure = found.of_model.confidences[place] if found.of_model else None
    told = f"CIDEr-D {score:.0f}" + ("" if sure is None else f", confidence {100 * sure:.0f} %")
    people = "".join(f"<li>{escape(reference)}</li>" for reference in sample.captions)
    return card(
        caption,
        words,
        shown(picture, f"Photo, as a person describes it: {sample.captions[0]}"),
        name=sample.name,
        told=told,
        figures={"score": score, **({} if sure is None else {"sure": sure})},
        more=f"<details><summary>{len(sample.captions)} people say</summary><ul>{people}</ul></details>",
    )


def shown(picture: Picture | None, description: str, *, gone: str = "This photo cannot be read.") -> str:
    """A thumbnail with its ``description`` for those who do not see it, or the words in its place."""
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
    """A list item for an image; ``figures``, its words and flags are what it is sorted and filtered by.

    ``picture`` and ``more`` are HTML, all else is text.
    """
    flags = " ".join(flag for flag, true in (("repeats", repeats(words)), ("empty", not words)) if true)
    data = f'data-length="{len(words)}" data-flags="{flags}"'
    data += "".join(f' data-{figure}="{value:.4f}"' for figure, value in figures.items())
    return (
        f'<li class="card" {data}><article>{picture}<div><p class="said">{escape(caption) or "<em>nothing</em>"}</p>'
        f'<p class="score">{escape(told)}</p>{more}'
        f'<p class="name">{escape(name)}</p></div></article></li>'
    )
