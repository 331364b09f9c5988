"""The images of a report as thumbnails inside the page, with their captions and references."""

from __future__ import annotations

from collections.abc import Sequence

from captioner.data.messages import counted
from captioner.evaluation.evaluate import Evaluation
from captioner.html.frame import folded
from captioner.html.gallery import MOST, card
from captioner.html.pictures import Picture, tag, thumbnails


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


def cards(evaluation: Evaluation, places: Sequence[int], words: Sequence[Sequence[str]]) -> list[str]:
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
