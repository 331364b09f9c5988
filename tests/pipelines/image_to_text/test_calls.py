"""Call forms of transformers' image-to-text pipeline, from its documentation and its users."""

from __future__ import annotations

import base64
import http.server
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

import captioner
from captioner.checkpoint import Checkpoint
from captioner.data.images import open_image
from captioner.errors import CheckpointError, ConfigError, ImageError, UsageError
from captioner.pipelines.image_to_text import ImageToTextPipeline
from captioner.pipelines.image_to_text.inputs import image_of
from captioner.training.tasks import Data


@pytest.fixture
def pipe(checkpoint: Checkpoint) -> ImageToTextPipeline:
    return captioner.pipeline("image-to-text", model=checkpoint)


@pytest.fixture
def photos(data: Data) -> list[str]:
    return [str(sample.path) for sample in data.train[:4]]


@pytest.fixture
def said(pipe: ImageToTextPipeline, photos: list[str]) -> list[list[dict[str, str]]]:
    """Return the answer for each photo alone."""
    texts = [pipe.pipe.caption(photo).text for photo in photos]
    assert len(set(texts)) > 2
    return [[{"generated_text": text}] for text in texts]


class Numbered(Dataset[str]):
    """A torch dataset without a length or an end."""

    def __init__(self, photos: list[str]) -> None:
        self.photos = photos

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> str:
        return self.photos[index % len(self.photos)]


class Flowing(IterableDataset[str]):
    def __init__(self, photos: list[str]) -> None:
        self.photos = photos

    def __iter__(self) -> Iterator[str]:
        return iter(self.photos)


@pytest.fixture
def server(photos: list[str]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/slow.png":
                time.sleep(2)
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.end_headers()
            self.wfile.write(Path(photos[0]).read_bytes())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()


def test_addresses_in_rows_lead_to_the_public_internet_alone(server: str) -> None:
    assert open_image(image_of(f"{server}/photo.png")).width
    with pytest.raises(ImageError, match="this machine or a private network"):
        open_image(image_of({"image": f"{server}/photo.png"}))
    for row in ({"image": f"{server}/photo.png"}, {"bytes": None, "path": f"{server}/photo.png"}):
        assert open_image(image_of(row, reach="private")).width
        with pytest.raises(ImageError, match="this machine or a private network"):
            open_image(image_of(row, reach="public"))


def test_one_image_gives_a_list_of_records(
    pipe: ImageToTextPipeline, photos: list[str], said: list[Any], server: str
) -> None:
    content = Path(photos[0]).read_bytes()
    text = base64.b64encode(content).decode()
    lines = base64.encodebytes(content).decode()
    with Image.open(photos[0]) as image, open(photos[0], "rb") as file:
        forms = [photos[0], Path(photos[0]), image, content, file, io.BytesIO(content), f"{server}/photo.png"]
        forms += [text, lines, f"data:image/png;base64,{text}", {"image": image}, {"photo": photos[0]}]
        forms += [{"bytes": content, "path": None}, {"bytes": None, "path": photos[0]}]
        for form in forms:
            assert pipe(form) == said[0], str(form)[:60]
    assert pipe(images=photos[0]) == said[0], "the older name of the first argument"


def test_a_list_gives_a_list_of_lists(pipe: ImageToTextPipeline, photos: list[str], said: list[Any]) -> None:
    assert pipe(photos) == said
    assert pipe(photos[:1]) == said[:1]
    assert pipe([]) == []
    assert pipe(tuple(photos), batch_size=3) == said
    assert pipe([Image.open(photo) for photo in photos], batch_size=2, num_workers=4) == said


def test_a_dataset_gives_an_iterator_of_its_length(
    pipe: ImageToTextPipeline, photos: list[str], said: list[Any]
) -> None:
    found = pipe(Numbered(photos), batch_size=2)
    assert len(found) == 3
    for _ in range(2):
        assert list(found) == said[:3], "begun again it goes through it again"
    assert next(found) == said[0]
    found = pipe(Flowing(photos))
    assert list(found) == said
    with pytest.raises(TypeError):
        len(found)


def test_the_datasets_of_hugging_face(pipe: ImageToTextPipeline, photos: list[str], said: list[Any]) -> None:
    datasets = pytest.importorskip("datasets")
    from transformers.pipelines.pt_utils import KeyDataset

    rows = datasets.Dataset.from_dict({"image": photos, "label": [0, 1, 2, 3]})
    decoded = rows.cast_column("image", datasets.Image())
    for dataset in (rows, decoded, rows.cast_column("image", datasets.Image(decode=False))):
        assert list(pipe(dataset, batch_size=3)) == said
        assert list(pipe(KeyDataset(dataset, "image"))) == said
    assert len(pipe(KeyDataset(decoded, "image"))) == 4
    assert list(pipe(decoded.to_iterable_dataset())) == said
    with pytest.raises(UsageError, match="a row with 'photo', 'label' has no column 'image'"):
        next(pipe(rows.rename_column("image", "photo")))
    assert pipe(decoded[0]) == said[0]
    assert pipe(decoded[:2]["image"]) == said[:2]


def test_a_generator_is_asked_for_one_image_a_caption(
    pipe: ImageToTextPipeline, photos: list[str], said: list[Any]
) -> None:
    answers: list[Any] = []

    def conversation() -> Iterator[str]:
        for photo in photos:
            seen = len(answers)
            yield photo
            assert len(answers) == seen + 1, "asked for the next one before this one was answered"

    for answer in pipe(conversation()):
        answers.append(answer)
    assert answers == said
    asked: list[str] = []
    found = pipe((asked.append(photo) or photo for photo in photos), batch_size=2)
    assert asked == []
    assert next(found) == said[0]
    assert list(found) == said[1:]
    assert list(pipe(iter(photos))) == said
    assert list(pipe(map(str, photos))) == said


def test_the_prompt_begins_every_caption(pipe: ImageToTextPipeline, photos: list[str]) -> None:
    assert pipe(photos[0], prompt="a photo of")[0]["generated_text"].startswith("a photo of")
    for found in pipe([photos[0], photos[1]], prompt="a photo of", batch_size=2):
        assert found[0]["generated_text"].startswith("a photo of")
    with pytest.raises(UsageError, match="one text for all images, not a list"):
        pipe([photos[0], photos[1]], prompt=["a photo of", "a photo of"])  # type: ignore[call-overload]


def test_options_of_the_call_and_of_the_pipeline(checkpoint: Checkpoint, photos: list[str]) -> None:
    pipe = captioner.pipeline("image-to-text", model=checkpoint)
    words = captioner.CaptionPipeline(checkpoint)
    assert pipe(photos[0], max_new_tokens=3) == [{"generated_text": words.caption(photos[0], max_tokens=3).text}]
    found = pipe(photos, generate_kwargs={"num_beams": 4, "num_return_sequences": 3, "max_new_tokens": 6})
    for records, photo in zip(found, photos, strict=True):
        best = words.caption(photo, beams=4, count=3, max_tokens=6)
        assert [record["generated_text"] for record in records] == [best.text, *(o.text for o in best.alternatives)]
    set_up = captioner.pipeline(
        model=checkpoint, max_new_tokens=3, prompt="a photo", batch_size=2, generate_kwargs={"num_beams": 2}
    )
    ours = words.caption(
        photos[0], max_tokens=3 + len(checkpoint.tokenizer.encode("a photo")), beams=2, prefix="a photo"
    )
    assert set_up(photos[0]) == [{"generated_text": ours.text}]
    longer = words.caption(photos[0], max_tokens=7 + len(checkpoint.tokenizer.encode("a")), beams=2, prefix="a")
    assert set_up(photos[0], prompt="a", generate_kwargs={"max_new_tokens": 7}) == [{"generated_text": longer.text}]


def test_what_cannot_be_is_said_at_the_call(pipe: ImageToTextPipeline, photos: list[str], tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"generate_kwargs": {"num_beam": 3}}, "generate_kwargs has 'num_beam', .*did you mean num_beams"),
        ({"generate_kwargs": {"streamer": object()}}, "no counterpart in captioner; choose among num_beams, "),
        ({"num_beams": 3}, "no option 'num_beams'; .* options of generate into generate_kwargs"),
        ({"max_new_tokens": 3, "generate_kwargs": {"max_new_tokens": 3}}, "given both directly and in generate_kwargs"),
        ({"generate_kwargs": {"do_sample": True, "num_beams": 3}}, "3 beams exclude"),
        ({"max_new_tokens": 0}, "max_tokens must be at least 1"),
        ({"batch_size": 0}, "batch size must be at least 1"),
    ]
    for options, message in cases:
        with pytest.raises((UsageError, ConfigError), match=message):
            pipe(Numbered(photos), **options)
    with pytest.raises(UsageError, match="no images to caption"):
        pipe()
    with pytest.raises(UsageError, match="not a int"):
        pipe(3)  # type: ignore[call-overload]
    with pytest.raises(ImageError, match="there is no such file"):
        pipe(str(tmp_path / "none.png"))
    with pytest.raises(ImageError, match="it is not an image"):
        pipe("data:image/png;base64,AAAA")
    answers = pipe(iter([photos[0], "none.png"]))
    next(answers)
    with pytest.raises(ImageError, match="there is no such file"):
        next(answers)


def test_an_address_has_its_time(pipe: ImageToTextPipeline, said: list[Any], server: str) -> None:
    assert pipe(f"{server}/photo.png", timeout=20) == said[0]
    with pytest.raises(ImageError, match=r"slow\.png: the server took longer than 0\.2 seconds"):
        pipe(f"{server}/slow.png", timeout=0.2)
    with pytest.raises(ImageError, match=r"longer than 0\.2 seconds"):
        captioner.pipeline(model=pipe.pipe, timeout=0.2)([f"{server}/slow.png"])


def test_how_it_is_opened(learnt: Path, photos: list[str], said: list[Any]) -> None:
    name = str(learnt)
    for opened in (
        captioner.pipeline("image-to-text", name, device=-1),
        captioner.pipeline("image-to-text", model=name, device=torch.device("cpu"), torch_dtype=torch.float32),
        captioner.pipeline(None, learnt, device_map="cpu", dtype="auto", use_fast=True, framework="pt"),
        captioner.pipeline(task="image-to-text", model=name, tokenizer=name, image_processor=name, device="cpu"),
    ):
        assert opened(photos) == said
        assert opened.device == torch.device("cpu")
        assert opened.task == "image-to-text"
    half = captioner.pipeline("image-to-text", model=name, torch_dtype=torch.float16, device="cpu")
    assert half.pipe.checkpoint.model.precision == "bf16"


def test_from_the_hub(hub: Any, learnt: Path, photos: list[str], said: list[Any]) -> None:
    captioner.push_to_hub(learnt, "someone/shapes", revision="v1")
    pipe = captioner.pipeline("image-to-text", model="someone/shapes", revision="v1", device="cpu")
    assert pipe(photos) == said
    with pytest.raises(CheckpointError, match="someone/none is not a directory"):
        captioner.pipeline("image-to-text", model="someone/none")


def test_arrays_and_tensors_are_one_image(
    pipe: ImageToTextPipeline, photos: list[str], said: list[list[dict[str, str]]]
) -> None:
    """An array is an image, not a list of rows of pixels."""
    pixels = [np.asarray(Image.open(photo).convert("RGB")) for photo in photos]
    assert pipe(pixels[0]) == said[0]
    assert pipe(torch.from_numpy(pixels[1].copy()).permute(2, 0, 1) / 255) == said[1]
    assert pipe(pixels) == said
    assert list(pipe(iter(pixels))) == said
    assert pipe({"image": pixels[2]}) == said[2]
    assert [{"generated_text": pipe.pipe.caption(pixels[3]).text}] == said[3]
    with pytest.raises(ImageError, match=r"pass several images as a list, or convert it with PIL\.Image\.fromarray"):
        pipe(np.stack(pixels))
    assert list(pipe(np.array(photos))) == said  # names, not numbers
