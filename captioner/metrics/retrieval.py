"""Recall of retrieval: how often what belongs to a query is among the first few found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Recall at 1, 5 and 10, from 0 to 100: of an own caption for an image, and of the image for a caption."""

    captions: tuple[float, float, float]
    images: tuple[float, float, float]


def retrieval(similarity: npt.NDArray[np.floating], owner: npt.NDArray[np.integer]) -> Retrieval:
    """Judge a table of ``similarity`` (images, captions); ``owner`` (captions,) is the place of each one's image.

    An image finds where any of its captions is found (Hodosh et al. 2013, section 5). What is as similar as the best of
    what belongs to a query counts as found before it, so a model that tells nothing apart finds nothing.
    """
    images, captions = similarity.shape
    own = owner[None, :] == np.arange(images)[:, None]  # (images, captions)
    best = np.where(own, similarity, -np.inf).max(axis=1, keepdims=True)
    before = ((similarity >= best) & ~own).sum(axis=1)  # (images,)
    pair = similarity[owner, np.arange(captions)]
    ahead = (similarity >= pair).sum(axis=0) - 1  # (captions,)
    return Retrieval(captions=_recalls(before), images=_recalls(ahead))


def _recalls(before: npt.NDArray[np.integer]) -> tuple[float, float, float]:
    one, five, ten = (100 * float((before < most).mean()) for most in (1, 5, 10))
    return one, five, ten
