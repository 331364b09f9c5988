"""Images without pixels, for evaluations from names and captions alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.data.samples import Sample


@pytest.fixture
def samples() -> list[Sample]:
    captions = [
        ("a black dog runs on the beach", "the dog is running along a beach", "a dog at the sea"),
        ("two children play with a red ball", "kids are playing ball", "two kids and a ball on the grass"),
        ("a man rides a horse", "a man on a brown horse in a field", "someone is riding a horse"),
        ("a bowl of fruit on a wooden table", "apples and pears in a bowl", "fruit in a white bowl on the table"),
    ]
    return [
        Sample(
            name=f"photos/{place}.jpg", path=Path(f"/data/photos/{place}.jpg"), captions=of_image, id=str(40 + place)
        )
        for place, of_image in enumerate(captions)
    ]
