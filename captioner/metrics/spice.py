"""SPICE (Anderson et al. 2016, arXiv 1607.08822) by the Java program in pycocoevalcap.

Not verified: it downloads a parser of 180 MB at its first use and needs an old Java (8 by its own notes), so no test
runs it. The call follows pycocoevalcap's documentation.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import numpy as np

from captioner.errors import CaptionerError, reason_of, require
from captioner.metrics.checks import Caption, check_corpus
from captioner.metrics.ngrams import Floats


def check_spice() -> None:
    """Raise ``CaptionerError`` if Java or pycocoevalcap is missing."""
    if shutil.which("java") is None:
        raise CaptionerError("SPICE needs Java; install a Java runtime, best version 8")
    require("pycocoevalcap", "coco", "SPICE")


def spice(candidates: Sequence[Caption], references: Sequence[Sequence[Caption]]) -> Floats:
    """Return SPICE of each image, (N,), 0 to 100; the corpus score is their mean.

    Raises ``CaptionerError`` without Java, without the parser or a network to download it, or if the program fails.
    """
    check_corpus(candidates, references)
    check_spice()
    from pycocoevalcap.spice.spice import Spice

    expected = {index: [" ".join(reference) for reference in group] for index, group in enumerate(references)}
    written = {index: [" ".join(candidate)] for index, candidate in enumerate(candidates)}
    try:
        _, scores = Spice().compute_score(expected, written)
    except Exception as error:  # a failed download, a Java that is too new, a full disk
        raise CaptionerError(f"SPICE could not be computed ({reason_of(error)}); leave out --spice") from error
    return 100 * np.array([score["All"]["f"] for score in scores], dtype=np.float64)
