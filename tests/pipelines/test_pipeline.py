"""Photos in, captions out, from Python."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import captioner
from captioner.checkpoint import Checkpoint
from captioner.config import Calibration
from captioner.errors import CheckpointError, ConfigError, ImageError, UsageError
from captioner.pipelines import Caption, CaptionPipeline, choose_device, load
from captioner.training.tasks import Data


@pytest.fixture
def pipe(checkpoint: Checkpoint) -> CaptionPipeline:
    return CaptionPipeline(checkpoint)


@pytest.fixture
def photos(data: Data) -> list[Path]:
    """Return the eight overfitted photos and four unseen ones."""
    return [sample.path for sample in (*data.train, *data.validation)]


def texts(found: list[Caption]) -> list[str]:
    return [caption.text for caption in found]


@pytest.mark.parametrize("beams", [1, 3])
def test_order_batch_size_and_company_change_no_caption(pipe: CaptionPipeline, photos: list[Path], beams: int) -> None:
    together = pipe.caption(photos, beams=beams, batch_size=12)
    assert len(set(texts(together))) > 6
    for alone, caption in zip((pipe.caption(photo, beams=beams) for photo in photos), together, strict=True):
        assert alone.text == caption.text
        assert alone.score == pytest.approx(caption.score, abs=1e-4)
    assert texts(pipe.caption(photos[::-1], beams=beams, batch_size=12)) == texts(together)[::-1]
    for batch_size in (1, 5):
        assert texts(pipe.caption(photos, beams=beams, batch_size=batch_size)) == texts(together)


def test_a_bad_image_is_an_error_at_its_place(pipe: CaptionPipeline, photos: list[Path], tmp_path: Path) -> None:
    good = texts(pipe.caption(photos[:4]))
    given = [photos[0], tmp_path / "gone.png", photos[1], b"", photos[2], ImageError("said before"), photos[3]]
    for batch_size in (1, 2, 16):
        found = list(pipe.stream(given, batch_size=batch_size))
        assert [isinstance(item, ImageError) for item in found] == [False, True, False, True, False, True, False]
        assert [str(item) for item in found[::2]] == good
        assert str(found[1]) == f"cannot read {tmp_path / 'gone.png'}: there is no such file"
    with pytest.raises(ImageError, match=r"gone\.png"):
        pipe.caption(given)
    assert [str(item) for item in pipe.stream([b"", b"no image"])] == [
        "cannot read an image of 0 bytes: it is empty",
        "cannot read an image of 8 bytes: it is not an image, or its format is not supported",
    ]


def test_whatever_a_person_calls_an_image(pipe: CaptionPipeline, photos: list[Path]) -> None:
    path = photos[0]
    with path.open("rb") as file, Image.open(path) as image:
        forms = [path, str(path), path.read_bytes(), file, io.BytesIO(path.read_bytes()), image, image.convert("RGBA")]
        assert set(texts(pipe.caption(forms))) == {pipe.caption(path).text}


def test_an_endless_stream_is_read_as_it_is_needed(pipe: CaptionPipeline, photos: list[Path]) -> None:
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        for taken in count(1):
            yield photos[taken % 4]

    stream = pipe.stream(endless(), batch_size=2)
    assert taken == 0
    assert len(list(islice(stream, 4))) == 4
    assert taken <= 8


def test_alternatives_are_the_other_beams(pipe: CaptionPipeline, photos: list[Path]) -> None:
    found = pipe.caption(photos[8], beams=4, count=3)
    assert len(found.alternatives) == 2
    assert len({found.text, *texts(list(found.alternatives))}) == 3
    assert found.alternatives[0].alternatives == ()
    assert pipe.caption(photos[8], beams=4).alternatives == ()
    assert str(found) == found.text


def test_the_score_is_the_mean_log_probability(pipe: CaptionPipeline, checkpoint: Checkpoint, data: Data) -> None:
    from captioner.data.images import open_image
    from captioner.data.transforms import preprocess

    caption = pipe.caption(data.train[0].path)
    tokens = checkpoint.tokenizer.encode(caption.text)
    ids = checkpoint.config.text
    pixels = preprocess(open_image(data.train[0].path), checkpoint.config.preprocess)[None]
    with torch.no_grad():
        logits = checkpoint.model(torch.tensor([[[ids.bos_id, *tokens]]]), pixels).logits[0, 0].log_softmax(-1)
    log_probs = logits.gather(1, torch.tensor([*tokens, ids.eos_id])[:, None])
    assert caption.score == pytest.approx(float(log_probs.mean()), abs=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"count": 2, "beams": 1}, "2 captions per image need at least as many beams, not 1"),
        ({"count": 0}, "captions per image must be at least 1, not 0"),
        ({"beams": 0}, "beams must be at least 1, not 0"),
        ({"batch_size": 0}, "the batch size must be at least 1, not 0"),
        ({"beams": 3, "temperature": 0.5}, "sampling and 3 beams exclude each other"),
        ({"beam": 3}, "unknown generation option 'beam'"),
        ({"top_p": "much"}, "top_p must be a float"),
    ],
)
def test_contradictions_are_refused_at_the_call(pipe: CaptionPipeline, options: Any, said: str) -> None:
    with pytest.raises((UsageError, ConfigError), match=said):
        pipe.stream([], **options)


def test_words_come_one_by_one(pipe: CaptionPipeline, photos: list[Path]) -> None:
    for photo in photos:
        pieces = list(pipe.stream_words(photo))
        assert "".join(pieces) == pipe.caption(photo, beams=1).text
        assert all(len(piece.split()) == 1 for piece in pieces)
    assert (
        "".join(pipe.stream_words(photos[8], seed=3, temperature=2.0))
        == pipe.caption(photos[8], seed=3, temperature=2.0).text
    )


def test_a_stream_of_words_that_is_left_leaves_nothing_behind(pipe: CaptionPipeline, photos: list[Path]) -> None:
    wanted = "".join(pipe.stream_words(photos[0]))
    words = pipe.stream_words(photos[0])
    first = next(words)
    assert wanted.startswith(first)
    assert not torch.is_inference_mode_enabled(), "the reader's own code is not in inference mode"
    assert "".join(pipe.stream_words(photos[0])) == wanted, "another one meanwhile"
    words.close()  # type: ignore[attr-defined]
    assert "".join(pipe.stream_words(photos[0])) == wanted


def test_only_what_is_known_word_by_word_is_streamed(pipe: CaptionPipeline, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="omit beams"):
        pipe.stream_words("never-read.jpg", beams=3)
    with pytest.raises(ImageError, match="no such file"):
        pipe.stream_words(tmp_path / "none.jpg")


def test_every_word_has_its_probability(pipe: CaptionPipeline, photos: list[Path]) -> None:
    for photo in photos[6:10]:
        found = pipe.caption(photo, beams=2, count=2)
        for caption in (found, *found.alternatives):
            assert " ".join(word.text for word in caption.words) == caption.text
            assert all(0 < word.probability <= 1 for word in caption.words)
            mean = sum(word.probability for word in caption.words) / max(len(caption.words), 1)
            assert caption.confidence == pytest.approx(mean, abs=1e-4), "not calibrated: the mean itself"


def test_every_caption_is_scored_under_every_image(pipe: CaptionPipeline, photos: list[Path]) -> None:
    said = pipe.caption(photos[:3])
    captions = [caption.text for caption in said]
    table = pipe.score(photos[:3], captions, batch_size=2)
    for i, photo in enumerate(photos[:3]):
        assert pipe.score(photo, captions) == pytest.approx(table[i], abs=1e-4)
        assert pipe.score(photo, captions[0]) == pytest.approx(table[i][0], abs=1e-4)
        assert max(table[i]) == table[i][i], "it knows these photos by heart"
    assert pipe.score(photos[:3], captions[1]) == pytest.approx([row[1] for row in table], abs=1e-4)
    length = len(pipe.checkpoint.tokenizer.encode(captions[0])) + 1
    assert table[0][0] / length == pytest.approx(said[0].score, abs=1e-4)


def test_what_cannot_be_scored(pipe: CaptionPipeline, photos: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the model reads 31"):
        pipe.score(photos[0], "very " * 60)
    with pytest.raises(ImageError, match="no such file"):
        pipe.score([photos[0], tmp_path / "none.jpg"], "a dog")


def test_calibration_moves_the_confidence_alone(checkpoint: Checkpoint, photos: list[Path]) -> None:
    plain = CaptionPipeline(checkpoint).caption(photos[9])
    doubtful = replace(checkpoint.generation, calibration=Calibration(slope=0.5, offset=-1.0))
    found = CaptionPipeline(replace(checkpoint, generation=doubtful)).caption(photos[9])
    assert (found.text, found.score) == (plain.text, plain.score)
    assert found.confidence < plain.confidence


def test_a_photo_is_drawn_alike_in_any_company(pipe: CaptionPipeline, photos: list[Path]) -> None:
    together = texts(pipe.caption(photos, temperature=3.0, seed=1))
    assert texts([pipe.caption(photo, temperature=3.0, seed=1) for photo in photos]) == together
    assert texts(pipe.caption(photos[::-1], temperature=3.0, seed=1, batch_size=5))[::-1] == together
    assert texts(pipe.caption(photos, temperature=3.0, seed=2)) != together


def test_rules_in_words(pipe: CaptionPipeline, photos: list[Path]) -> None:
    known = pipe.caption(photos[0]).text
    word = known.split()[-1]
    assert word not in pipe.caption(photos[0], forbid=word).text.split()
    assert pipe.caption(photos[0], prefix="zebra").text.startswith("zebra")
    assert "zebra" in pipe.caption(photos[0], require=["zebra"]).text.split()
    assert isinstance(next(pipe.stream([photos[0]], require="zebra", no_repeat_ngram=3, max_tokens=32)), Caption)


def test_load_by_the_one_door(learnt: Path, photos: list[Path], pipe: CaptionPipeline) -> None:
    opened = captioner.load(learnt, device="cpu")
    assert isinstance(opened, captioner.CaptionPipeline)
    assert opened.caption(photos[0]).text == pipe.caption(photos[0]).text
    assert set(dir(captioner)) == set(captioner.__all__)
    assert all(getattr(captioner, name) is not None for name in captioner.__all__)
    with pytest.raises(AttributeError, match="no attribute 'headlines'"):
        _ = captioner.headlines


@pytest.mark.parametrize("device", ["gpu9", "cuda:99", "meta", ""])
def test_a_device_that_cannot_be_used(learnt: Path, device: str) -> None:
    with pytest.raises(UsageError, match=r"^the device '.*' cannot be used \(.+\); choose another one, such as cpu$"):
        load(learnt, device=device)


def test_the_device_is_chosen_where_none_is_named() -> None:
    assert torch.device(choose_device()).type in ("cpu", "cuda", "mps")


def test_no_model_of_that_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a checkpoint directory"):
        load(tmp_path / "nowhere")
