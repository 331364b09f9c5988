"""Numbers with their nouns, and problems that keep all names."""

from __future__ import annotations

from captioner.data.messages import Problem, agreeing, counted, names_of, some


def test_one_and_many() -> None:
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [counted(n, "caption", "have") for n in (1, 3)] == ["1 caption has", "3 captions have"]
    assert [agreeing(1, verb) for verb in ("are", "were", "look", "name")] == ["is", "was", "looks", "names"]


def test_a_problem_is_its_sentence_and_keeps_all_names() -> None:
    names = [f"{n}.jpg" for n in range(5)]
    problem = Problem(f"5 images are missing: {some(names)}", names)
    assert problem == "5 images are missing: 0.jpg, 1.jpg, 2.jpg, ..."
    assert names_of(problem) == tuple(names)
    assert names_of("a plain sentence") == ()
