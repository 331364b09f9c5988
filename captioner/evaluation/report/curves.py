"""The curves of a model's training run, from its ``log.jsonl``."""

from __future__ import annotations

import json
import math
from pathlib import Path

from captioner.html.charts import Series, lines

SHOWN = {  # kind of record, figure, title
    ("train", "loss"): "Training loss",
    ("validation", "token_nll"): "Held-out loss per token",
    ("validation", "cider_d"): "Held-out CIDEr-D",
    ("validation", "bleu4"): "Held-out BLEU-4",
}
POINTS = 400  # points of a curve; a long run logs thousands


def log_of(model: str | Path | None) -> Path | None:
    """Return the log of the run of a model's directory: inside it, or beside it (``runs/NAME/best``)."""
    if model is None:
        return None
    folder = Path(model)
    return next((path / "log.jsonl" for path in (folder, folder.parent) if (path / "log.jsonl").is_file()), None)


def curves(log: Path) -> str:
    """Return a chart for each figure that the run logged more than once; skip lines that are not JSON."""
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
            kind, step = record["kind"], float(record["step"])
        except (ValueError, KeyError, TypeError):
            continue
        for name, value in record.items():
            if (kind, name) in SHOWN and isinstance(value, (int, float)) and math.isfinite(value):
                points.setdefault((kind, name), []).append((step, float(value)))
    return "\n".join(
        lines([Series(name=f"{kind} {name}", points=tuple(_thinned(points[kind, name])))], title=title, x="step", y="")
        for (kind, name), title in SHOWN.items()
        if len(points.get((kind, name), [])) > 1
    )


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    every = max(1, len(points) // POINTS)
    return [*points[::every], *(points[-1:] if (len(points) - 1) % every else [])]
