"""A folder that other users can enter, and an untrained captioner."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from images import encoded, photo


@pytest.fixture(scope="session")
def top() -> Iterator[Path]:
    """Return a folder that other users can enter, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="captioner-hostile-"))
    folder.chmod(0o755)
    yield folder
    for path in [*folder.glob("*/places/closed"), *folder.glob("*/places/listed")]:
        path.chmod(0o700)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def model(top: Path) -> Path:
    """Save an untrained captioner."""
    import torch

    from captioner.checkpoint import Checkpoint, save
    from captioner.config import CaptionerConfig, DecoderConfig, GenerationConfig, PreprocessConfig, VisionConfig
    from captioner.models.captioner import Captioner
    from captioner.text import train_tokenizer

    torch.manual_seed(0)
    tokenizer = train_tokenizer(["a dog on a beach", "two dogs"], 262)
    config = CaptionerConfig(
        vision=VisionConfig(backbone="test_efficientnet"),
        decoder=DecoderConfig(vocab_size=tokenizer.vocab_size, width=16, layers=1, heads=2, cross_pattern="M"),
        text=tokenizer.config,
        preprocess=PreprocessConfig(size=32),
    )
    (top / "whole.png").write_bytes(encoded(photo(), "PNG"))
    return save(Checkpoint(Captioner(config).eval(), tokenizer, GenerationConfig(max_tokens=4), {}, ""), top / "model")
