"""The captions of text files and of datasets, whose words a captioner keeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from captioner.data.sources import read_splits
from captioner.training.setup import read_lines

LINES = (".txt", "")  # suffixes of files with a caption on each line


def read_captions(sources: Sequence[str]) -> list[str]:
    """Return the captions of text files (one a line) and of datasets of any format, all of their splits.

    Raises ``DataError`` for a source that cannot be read or holds none.
    """
    captions: list[str] = []
    for source in sources:
        if Path(source).suffix.lower() in LINES and not Path(source).is_dir():
            captions += read_lines(source)
            continue
        splits = read_splits(source, outside=True).splits
        captions += [caption for samples in splits.values() for sample in samples for caption in sample.captions]
    return captions
