"""The objects and streamed events of OpenAI's protocol.

A beam search knows its first word last, so a stream delivers the words of a finished caption: the same caption as
without a stream.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

Event = dict[str, Any]


def pieces(text: str) -> list[str]:
    """Return the words of a text with the spaces before them."""
    return re.findall(r"\s*\S+", text) or [text]


def of_chat(head: Event, texts: list[str], usage: dict[str, int] | None) -> Iterator[Event | str]:
    """Yield the chunks of a chat completion with one text per choice."""
    head = {**head, "object": "chat.completion.chunk"}

    def chunk(place: int, delta: Event, reason: str | None = None) -> Event:
        choice = {"index": place, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**head, "choices": [choice]}

    for place, text in enumerate(texts):
        yield chunk(place, {"role": "assistant", "content": ""})
        for piece in pieces(text):
            yield chunk(place, {"content": piece})
        yield chunk(place, {}, "stop")
    if usage is not None:
        yield {**head, "choices": [], "usage": usage}
    yield "[DONE]"


def response(model: str, text: str, usage: dict[str, int]) -> Event:
    """Return a finished response."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    message = {
        "type": "message",
        "id": f"msg_{uuid.uuid4().hex}",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": [message],
        "parallel_tool_calls": False,
        "temperature": None,
        "tool_choice": "none",
        "tools": [],
        "top_p": None,
        "usage": {
            "input_tokens": 0,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        },
    }


def of_response(answer: Event, text: str) -> Iterator[Event | str]:
    """Yield the events of a response."""
    (message,) = answer["output"]
    (part,) = message["content"]
    empty = {**answer, "status": "in_progress", "output": [], "usage": None}
    place = {"item_id": message["id"], "output_index": 0, "content_index": 0}
    events: list[Event] = [
        {"type": "response.created", "response": empty},
        {"type": "response.in_progress", "response": empty},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**message, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        *({"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []} for piece in pieces(text)),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": message},
        {"type": "response.completed", "response": answer},
    ]
    yield from ({**event, "sequence_number": number} for number, event in enumerate(events))
