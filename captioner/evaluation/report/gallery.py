"""The images of a report, small and inside the page, with what people and the captions say of each."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape

from captioner.data.images import open_image
from captioner.data.samples import Sample
from captioner.errors import ImageError
from captioner.evaluation.evaluate import Evaluation
from captioner.metrics.diversity import repeats

MOST = 1000  # images in a page: about 8 MB
SIDE = 176  # pixels of a thumbnail's longer side


def chosen(found: Evaluation, most: int = MOST) -> list[int]:
    """Which images are shown: all, or the worst, the best, the most doubtful and the longest, a quarter each."""
    images = len(found.captions)
    if images <= most:
        return list(range(images))
    scores = found.model.per_image
    sure = found.of_model.confidences if found.of_model else scores
    lengths = [len(caption) for caption in found.captions]
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
        pictures = list(pool.map(lambda n: thumbnail(samples[n]), places))
    return "\n".join(
        _card(found, place, words[place], picture) for place, picture in zip(places, pictures, strict=True)
    )


def thumbnail(sample: Sample) -> tuple[str, int, int] | None:
    """A small JPEG as a data URI with its width and height; None for an image that cannot be read."""
    try:
        image = open_image(sample.image(), min_side=SIDE)
    except ImageError:
        return None
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=70, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}", *image.size


def _card(found: Evaluation, place: int, words: Sequence[str], picture: tuple[str, int, int] | None) -> str:
    sample, caption = found.judgement.samples[place], found.captions[place]
    score = found.model.per_image[place]
    sure = found.of_model.confidences[place] if found.of_model else None
    flags = " ".join(name for name, true in (("repeats", repeats(words)), ("empty", not words)) if true)
    data = f'data-score="{score:.2f}" data-length="{len(words)}" data-flags="{flags}"'
    data += "" if sure is None else f' data-sure="{sure:.4f}"'
    if picture is None:
        shown = '<p class="gone">This photo cannot be read.</p>'
    else:
        source, width, height = picture
        alt = escape(f"Photo, as a person describes it: {sample.captions[0]}")
        shown = f'<img src="{source}" width="{width}" height="{height}" alt="{alt}" loading="lazy" decoding="async">'
    people = "".join(f"<li>{escape(reference)}</li>" for reference in sample.captions)
    told = f"CIDEr-D {score:.0f}" + ("" if sure is None else f", confidence {100 * sure:.0f} %")
    return (
        f'<li class="card" {data}><article>{shown}<div><p class="said">{escape(caption) or "<em>nothing</em>"}</p>'
        f'<p class="score">{told}</p>'
        f"<details><summary>{len(sample.captions)} people say</summary><ul>{people}</ul></details>"
        f'<p class="name">{escape(sample.name)}</p></div></article></li>'
    )
