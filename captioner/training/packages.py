"""The packages that training needs and captioning does not."""

from __future__ import annotations

from captioner.errors import require

PACKAGES = ("accelerate", "nltk")


def require_training() -> None:
    """Raise ``MissingExtraError`` if a package of the extra ``train`` is missing without which no run can start."""
    for package in PACKAGES:
        require(package, "train", "training")
