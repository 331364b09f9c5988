"""METEOR 1.5 (Denkowski and Lavie 2014) by the original Java program in pycocoevalcap.

The program aligns captions and returns counts. The score of any set of images comes from their sums by the paper's
equations 1 to 4, equal to the program's own. (The ``meteor_score`` of nltk has other weights and no paraphrases.)
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from captioner.errors import CaptionerError
from captioner.metrics.checks import Caption, check_corpus
from captioner.metrics.ngrams import Floats, Ints
from captioner.metrics.statistic import divided

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75  # English, table 1 of the paper
MODULES = np.array([1.0, 0.6, 0.8, 0.6])  # exact, stem, synonym, paraphrase
CHUNKS, SAID, READ = 20, 21, 22  # columns: chunks, matched words of the candidate and of the reference


def missing_for_meteor() -> str:
    """Return the missing requirement of METEOR, or an empty string if it can be computed."""
    if shutil.which("java") is None:
        return "needs Java"
    return "" if _folder() is not None else "needs pycocoevalcap"


class Meteor:
    """The running Java program. It takes seconds to read its tables: start it early."""

    def __init__(self) -> None:
        folder = _folder()
        if folder is None or shutil.which("java") is None:
            raise CaptionerError(f"METEOR {missing_for_meteor()}; install a Java runtime and 'captioner[coco]'")
        self.process = subprocess.Popen(
            ["java", "-Xmx2G", "-XX:+UseSerialGC", "-jar", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def counts(self, candidates: Sequence[Caption], references: Sequence[Sequence[Caption]]) -> Floats:
        """Return the counts of each image, (N, 23), for ``meteor_of``; the best of several references counts.

        Raises ``CaptionerError`` if the program has died.
        """
        check_corpus(candidates, references)
        lines = [
            " ||| ".join(["SCORE", *(" ".join(reference) for reference in group), " ".join(candidate)])
            for candidate, group in zip(candidates, references, strict=True)
        ]
        writer = threading.Thread(target=self._write, args=(lines,), daemon=True)  # else both sides block on full pipes
        writer.start()
        assert self.process.stdout is not None
        answers = [self.process.stdout.readline().split() for _ in lines]
        writer.join()
        if any(len(answer) <= READ for answer in answers):
            raise CaptionerError("METEOR stopped without an answer; it needs 2 GiB of free memory")
        counts = np.array([[float(value) for value in answer[: READ + 1]] for answer in answers])
        # A caption equal to its reference has no chunks.
        whole = (counts[:, CHUNKS] == 1) & (counts[:, SAID] == counts[:, 0]) & (counts[:, READ] == counts[:, 1])
        counts[whole, CHUNKS] = 0
        return counts

    def pairs(self, candidates: Sequence[Caption], references: Sequence[Caption]) -> Floats:
        """Return the counts of each pair of a candidate and a reference, (P, 23), for ``best_of``."""
        return self.counts(candidates, [[reference] for reference in references]) if candidates else np.zeros((0, 23))

    def close(self) -> None:
        """End the program."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _write(self, lines: Sequence[str]) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # the reader of the answers reports a dead program
            for line in lines:
                self.process.stdin.write(f"{line}\n".encode())
            self.process.stdin.flush()


def meteor_of(counts: Floats) -> Floats:
    """Return METEOR, 0 to 100, from counts (..., 23). Below, h is the candidate (hypothesis) and r the reference."""
    words_h, words_r, function_h, function_r = (counts[..., column] for column in range(4))
    by_module = counts[..., 4:CHUNKS].reshape(*counts.shape[:-1], len(MODULES), 4)
    matched = by_module * MODULES[:, None]
    content_matched_h, content_matched_r, function_matched_h, function_matched_r = matched.sum(axis=-2).transpose(
        -1, *range(counts.ndim - 1)
    )
    precision = divided(
        DELTA * content_matched_h + (1 - DELTA) * function_matched_h,
        DELTA * (words_h - function_h) + (1 - DELTA) * function_h,
    )
    recall = divided(
        DELTA * content_matched_r + (1 - DELTA) * function_matched_r,
        DELTA * (words_r - function_r) + (1 - DELTA) * function_r,
    )
    mean = divided(precision * recall, ALPHA * precision + (1 - ALPHA) * recall)
    fragmentation = divided(counts[..., CHUNKS], (counts[..., SAID] + counts[..., READ]) / 2)
    return 100 * mean * (1 - GAMMA * fragmentation**BETA)


def best_of(pairs: Floats, image: Ints) -> Floats:
    """Return the best pair of each image, (N, 23), from pairs (P, 23) sorted by ``image``; the first of equals."""
    by_score = np.lexsort((np.arange(len(pairs)), -meteor_of(pairs), image))
    return pairs[by_score[np.unique(image[by_score], return_index=True)[1]]]


def _folder() -> Path | None:
    """Return pycocoevalcap's folder of the program."""
    if importlib.util.find_spec("pycocoevalcap") is None:
        return None
    spec = importlib.util.find_spec("pycocoevalcap.meteor.meteor")
    folder = Path(spec.origin).parent if spec is not None and spec.origin else None
    return folder if folder is not None and (folder / "meteor-1.5.jar").exists() else None
