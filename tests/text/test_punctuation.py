"""Raw text, with spaces around every mark, as people write it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from captioner.text.punctuation import LOOK_AHEAD, joined

TABLE = [
    ("a man ' s hat", "a man's hat"),
    ("a t - shirt", "a t-shirt"),
    ("a black - and - white photo", "a black-and-white photo"),
    ("they don ' t know , we ' re sure", "they don't know, we're sure"),
    ("it is 10 : 30 now", "it is 10:30 now"),
    ("3 . 5 meters", "3.5 meters"),
    ("a dog , a cat ; two birds !", "a dog, a cat; two birds!"),
    ('a sign that says " stop "', 'a sign that says "stop"'),
    ('" one " and " two words "', '"one" and "two words"'),
    ("an arrow ( left ) here", "an arrow (left) here"),
    ("$ 5 or 50 % off", "$5 or 50% off"),
    ("cats and / or dogs", "cats and/or dogs"),
    ("the sign reads ' no parking '", "the sign reads 'no parking'"),
    ("two signs ' stop '", "two signs 'stop'"),
    ("the dogs ' bowl", "the dogs' bowl"),
    ("rock ' n ' roll", "rock 'n' roll"),
    ("five o ' clock", "five o'clock"),
    ("a car of the ' 90s , or 1980 ' s", "a car of the '90s, or 1980's"),
    ("he is 5 ' 9", "he is 5'9"),
    ("1 , 000 , 000 people", "1,000,000 people"),
    ("1 , 2 , 3", "1, 2, 3"),
    ("in the u . s . at 5 p . m", "in the u.s. at 5 p.m"),
    ("j . k . rowling", "j.k. rowling"),
    ("st . louis", "st. louis"),
    ("www . example . com", "www.example.com"),
    ("http : / / example . org", "http://example.org"),
    ("wait . . . what ? !", "wait... what?!"),
    ("a dog - - a big one", "a dog -- a big one"),
    ("black & white", "black & white"),
    ("number # 1 of img _ 01 . jpg", "number #1 of img_01.jpg"),
    ("a caption : two dogs", "a caption: two dogs"),
    ("[ red ] { blue }", "[red] {blue}"),
    ("“ stop ” , the man ’ s ‘ hat ’", "“stop”, the man’s ‘hat’"),
    ("pages 10 – 20 — all", "pages 10–20 — all"),
    ("- 5 degrees , 1 / 2 full", "-5 degrees, 1/2 full"),
    ("一 头 牛 ， 两 个 人 。 two 牛", "一头牛，两个人。 two 牛"),
    ("the man ' s ' awesome ' hat", "the man's 'awesome' hat"),
    ("a hat with a letter ' c ' in gold", "a hat with a letter 'c' in gold"),
    ("a hat ' c ' in gold", "a hat 'c' in gold"),
    ("two words ' the man ' s bar ' on it", "two words 'the man's bar' on it"),
    ("a sign that says ' open late", "a sign that says 'open late"),
    ("an ol ' man , a 6 ' tall dog", "an ol' man, a 6' tall dog"),
    ("the summer of ' 69", "the summer of '69"),
    ("c ' est un chien qui n ' a rien", "c'est un chien qui n'a rien"),
    ("' l ' eau ' est bleue", "'l'eau' est bleue"),
    ("aujourd ' hui , qu ' il « s ' assoit »", "aujourd'hui, qu'il «s'assoit»"),
    ("un ' auto rossa dell ' anno , un po ' di", "un'auto rossa dell'anno, un po' di"),
    ("istanbul ' da , ankara ' nın ve izmir ' de", "istanbul'da, ankara'nın ve izmir'de"),
    ("сім ' я на дворі", "сім'я на дворі"),
    ("la casa d ’ inverno , сім ’ я", "la casa d’inverno, сім’я"),
    ("¿ que es ? ¡ hola !", "¿que es? ¡hola!"),
    ("„ hallo “ sagt ‚ er ‘ “ neu ”", "„hallo“ sagt ‚er‘ “neu”"),
    ('the end "', 'the end"'),
    ("the dogs '", "the dogs'"),
    ("", ""),
    ("dog", "dog"),
]


def pieces(raw: str) -> list[bytes]:
    return [f" {word}".encode() for word in raw.split()]


@pytest.mark.parametrize(("raw", "written"), TABLE)
def test_marks_are_joined_as_people_write_them(raw: str, written: str) -> None:
    assert b"".join(joined(pieces(raw))).decode().strip() == written


@pytest.mark.parametrize(("raw", "written"), TABLE)
def test_only_spaces_change(raw: str, written: str) -> None:
    given = pieces(raw)
    found = list(joined(given))
    assert [piece.strip() for piece in found] == [piece.strip() for piece in given]
    assert written.replace(" ", "") == raw.replace(" ", "")


def test_parts_of_words_and_special_tokens_stay_with_their_words() -> None:
    assert list(joined([b"", b" sh", b"irt", b"", b" '", b" s", b" hat"])) == [
        b"", b" sh", b"irt", b"", b"'", b"s", b" hat"
    ]  # fmt: skip
    assert list(joined([b"ing", b" ,", b" dog"])) == [b"ing", b",", b" dog"]


@pytest.mark.parametrize("text", ["a man ' s hat on a dog", "a sign says ' no parking here ' on a wall"])
def test_a_piece_comes_a_few_words_later(text: str) -> None:
    taken = 0

    def given() -> Iterator[bytes]:
        nonlocal taken
        for piece in pieces(text):
            taken += 1
            yield piece

    for number, _ in enumerate(joined(given())):
        assert taken <= number + 2 + LOOK_AHEAD
