"""Lists of words in files: their words, and one sentence for a bad file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import captioner
from captioner.captioning.word_list import LONGEST_LIST, MOST_WORDS, word_list
from captioner.errors import UsageError


def test_words_are_lines_without_comments(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_bytes("\ufeff# people\r\nman\r\n\r\n  hot dog \nCafé\n#end\nman\n".encode())
    assert captioner.word_list(file) == ("man", "hot dog", "Café")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no words; write one per line"),
        (b"# only\n\n  \n", "holds no words; write one per line"),
        (b"caf\xe9\n", "is not UTF-8; save it as UTF-8"),
        (b"a\n" * (LONGEST_LIST // 2 + 1), "cannot be used: it is longer than 1 MiB; shorten it"),
        ("\n".join(map(str, range(MOST_WORDS + 1))).encode(), "has 5,001 words, more than 5,000; shorten it"),
        (b"x" * 101, "has a line of more than 100 characters, 'xxxxxxxxxxxxxxxxxxxx'...; write one word or phrase"),
    ],
)
def test_a_bad_list_is_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "words.txt"
    file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        word_list(file)
    assert f"the word list {file} {said}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_list_is_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("pipe", "it is not a regular file"), ("", "it is not a regular file"), ("gone", "No such file")):
        with pytest.raises(UsageError, match=f"cannot be read \\({why}"):
            word_list(tmp_path / name)
