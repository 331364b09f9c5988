"""OpenAI's protocol, spoken by its own client."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from captioner.serving.child import Model
from captioner.serving.protocols.openai import images_of
from captioner.serving.protocols.openai_events import pieces
from captioner.serving.refusals import Refusal


def data_url(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def see(*parts: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": list(parts)}


def image(path: Path, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(path), **more}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


@pytest.fixture
def client(server: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as found:
        yield found


@pytest.fixture
def captions(model: Model, photos: Path) -> dict[str, str]:
    return {path.name: model.pipe.caption(str(path)).text for path in sorted(photos.iterdir())[:4]}


def test_chat(client: Any, captions: dict[str, str], photos: Path) -> None:
    for name, caption in captions.items():
        messages = [
            {"role": "system", "content": "Be brief."},
            see(text("What is this?"), image(photos / name, detail="low")),
        ]
        answer = client.chat.completions.create(model="gpt-4o", messages=messages, max_tokens=5, temperature=0.9)
        assert answer.choices[0].message.content == caption
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage.completion_tokens == len(caption.split())
        chunks = list(client.chat.completions.create(model="gpt-4o", messages=messages, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == caption
        assert len(chunks) == len(caption.split()) + 2
        assert chunks[-1].choices[0].finish_reason == "stop"


def test_several_images_and_choices(client: Any, captions: dict[str, str], model: Model, photos: Path) -> None:
    (first, second), names = list(captions)[:2], list(captions)
    messages = [
        see(image(photos / names[2])),
        see(text("Image 1:"), image(photos / first), text("Image 2:"), image(photos / second)),
    ]
    answer = client.chat.completions.create(model="x", messages=messages)
    assert answer.choices[0].message.content == f"Image 1: {captions[first]}\nImage 2: {captions[second]}"
    several = client.chat.completions.create(model="x", messages=[see(image(photos / first))], n=3)
    caption = model.pipe.caption(str(photos / first), count=3)
    assert [choice.message.content for choice in several.choices] == [
        found.text for found in (caption, *caption.alternatives)
    ]
    usage = {"include_usage": True}
    *_, last = client.chat.completions.create(
        model="x", messages=[see(image(photos / first))], stream=True, stream_options=usage
    )
    assert last.usage.completion_tokens == len(captions[first].split())
    extra = {"captioner": {"forbid": captions[first].split()[-1:]}}
    other = client.chat.completions.create(model="x", messages=[see(image(photos / first))], extra_body=extra)
    assert other.choices[0].message.content == model.pipe.caption(str(photos / first), **extra["captioner"]).text


def test_responses(client: Any, captions: dict[str, str], photos: Path) -> None:
    name, caption = next(iter(captions.items()))
    parts = [{"type": "input_text", "text": "?"}, {"type": "input_image", "image_url": data_url(photos / name)}]
    answer = client.responses.create(model="x", input=[{"role": "user", "content": parts}])
    assert answer.output_text == caption
    assert answer.usage.output_tokens == len(caption.split())
    events = list(client.responses.create(model="x", input=[{"role": "user", "content": parts}], stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == caption
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == caption
    assert [event.sequence_number for event in events] == list(range(len(events)))
    with client.responses.stream(model="x", input=[{"role": "user", "content": parts}]) as stream:
        assert stream.get_final_response().output_text == caption


def test_models(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "captioner"
    with pytest.raises(openai.NotFoundError, match="the model of this server is tiny"):
        client.models.retrieve("other/one")


def test_errors_are_those_that_the_client_knows(client: Any, start: Callable[..., Any]) -> None:
    broken = see({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}})
    with pytest.raises(openai.BadRequestError, match="cannot read image 1") as bad:
        client.chat.completions.create(model="x", messages=[broken])
    assert (bad.value.type, bad.value.code) == ("invalid_request_error", "invalid_image")
    with pytest.raises(openai.BadRequestError, match="no message holds an image"):
        client.chat.completions.create(model="x", messages=[{"role": "user", "content": "hello"}])
    with pytest.raises(openai.BadRequestError, match="messages"):
        client.chat.completions.create(model="x", messages="no list")
    with pytest.raises(openai.BadRequestError, match="beams must be at least 1"):
        client.chat.completions.create(model="x", messages=[broken], extra_body={"captioner": {"beams": 0}})
    with pytest.raises(openai.BadRequestError, match="unknown generation option"):
        client.chat.completions.create(model="x", messages=[broken], extra_body={"captioner": {"beems": 1}})
    locked = start(key="s3cret")
    with (
        openai.OpenAI(base_url=f"{locked.url}/v1", api_key="wrong", max_retries=0) as wrong,
        pytest.raises(openai.AuthenticationError, match="the key is missing or wrong"),
    ):
        wrong.models.list()
    with openai.OpenAI(base_url=f"{locked.url}/v1", api_key="s3cret", max_retries=0) as right:
        assert right.models.list().data[0].id == "captioner"


def test_the_client_returns_when_the_server_is_busy(start: Callable[..., Any], photos: Path) -> None:
    server = start(limits={"queue": 0, "photos": 0})
    server.service.door.check_count = lambda count: None  # type: ignore[method-assign]
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client,
        pytest.raises(openai.InternalServerError, match="server busy") as busy,
    ):
        client.chat.completions.create(model="x", messages=[see(image(photos / "0.png"))])
    assert busy.value.response.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ([see({"type": "image_url", "image_url": "a"})], ["a"]),
        ([see({"type": "image_url", "image_url": {"url": "a"}}), {"role": "user", "content": "more"}], ["a"]),
        ([see({"type": "input_image", "image_url": "a"}), see({"type": "input_image", "image_url": "b"})], ["b"]),
        ([{"type": "input_image", "image_url": "a"}, {"type": "input_text", "text": "?"}], ["a"]),
        ([see(text("a"))], None),
        ([see({"type": "image_url"})], None),
        ([{}], None),
        ([see(None, 3, {"type": "image_url", "image_url": {"url": 3}})], None),
        ("text", None),
    ],
)
def test_the_images_of_messages(messages: Any, found: list[str] | None) -> None:
    if found is None:
        with pytest.raises(Refusal):
            images_of(messages)
    else:
        assert images_of(messages) == found


@pytest.mark.parametrize("caption", ["", "a", "a red  circle", " a", "红色的圆"])
def test_pieces_join_to_the_text(caption: str) -> None:
    assert "".join(pieces(caption)) == caption
