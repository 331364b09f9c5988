"""Recall at k of image and caption retrieval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Recall at 1, 5 and 10, from 0 to 100."""

    captions: tuple[float, float, float]  # recall of any own caption, for an image
    images: tuple[float, float, float]  # recall of the image, for a caption


def retrieval(similarity: npt.NDArray[np.floating], owner: npt.NDArray[np.integer]) -> Retrieval:
    """Return the recall of a table of ``similarity`` (images, captions); ``owner`` (captions,): the image of each.

    An image counts if any of its captions is retrieved (Hodosh et al. 2013, section 5). Ties rank before the right
    result, so a constant similarity retrieves nothing.
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
