"""SPICE (Anderson et al. 2016, arXiv 1607.08822) by the Java program that pycocoevalcap brings.

Not verified: it downloads a parser of 180 MB when first used and wants an old Java (8 in its own notes), so no test
runs it. The call is the one that pycocoevalcap documents.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np

from captioner.errors import CaptionerError, MissingExtraError, reason_of
from captioner.metrics.checks import Caption, check_corpus
from captioner.metrics.ngrams import Floats


def check_spice() -> None:
    """Raise ``CaptionerError`` where SPICE cannot be computed, for want of Java or of the package that has it."""
    if shutil.which("java") is None:
        raise CaptionerError("SPICE needs Java; install a Java runtime (8 is the one it was written for)")
    if find_spec("pycocoevalcap") is None:
        raise MissingExtraError("pycocoevalcap", "coco", "SPICE")


def spice(candidates: Sequence[Caption], references: Sequence[Sequence[Caption]]) -> Floats:
    """SPICE of each image, (N,), 0 to 100; the corpus has their mean.

    Raises ``CaptionerError`` without Java, without the parser and no network to get it, or where the program fails.
    """
    check_corpus(candidates, references)
    check_spice()
    from pycocoevalcap.spice.spice import Spice

    truth = {index: [" ".join(reference) for reference in group] for index, group in enumerate(references)}
    said = {index: [" ".join(candidate)] for index, candidate in enumerate(candidates)}
    try:
        _, scores = Spice().compute_score(truth, said)
    except Exception as error:  # a download that fails, a Java that is too new, a full disk
        raise CaptionerError(f"SPICE could not be computed ({reason_of(error)}); leave out --spice") from error
    return 100 * np.array([score["All"]["f"] for score in scores], dtype=np.float64)
