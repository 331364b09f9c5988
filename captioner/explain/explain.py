"""The path from a photo to an explanation: generate or take a caption, read it again, record each layer's attention."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from captioner.captioning.batches import NOTHING_FITS, caption_encoded, check_learnt, encode
from captioner.captioning.labels import labels_of
from captioner.config import GenerationConfig
from captioner.data.images import ImageSource, open_image
from captioner.data.items import system_reason
from captioner.data.paths import shown
from captioner.data.transforms import preprocess, view
from captioner.errors import ImageError, OutputError, UsageError
from captioner.explain.reading import Array, LayerReads, Reading
from captioner.generation.words import word_spans, word_texts
from captioner.inference import AnyCheckpoint
from captioner.layers.attention import ImageRead
from captioner.models.decoder import Decoder, ImageMemory


class Explanation(Reading):
    """The result of ``explain``: a reading that can be saved as a page or a picture.

    explanation = explain(checkpoint, "photo.jpg")
    print(explanation.words, explanation.probabilities)
    explanation.save("photo.html")
    """

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write an interactive page (``.html``) or a strip with one picture per word (``.png``).

        Raises ``UsageError`` for another suffix, ``OutputError`` if the file cannot be written.
        """
        from captioner.explain.page import page  # imported here to keep the package's import fast
        from captioner.explain.strip import png

        forms: dict[str, Callable[[Reading], bytes]] = {".html": lambda reading: page(reading).encode(), ".png": png}
        path = Path(path)
        form = forms.get(path.suffix.lower())
        if form is None:
            raise UsageError(f"{shown(path)} is neither .html nor .png; use one of these suffixes")
        content = form(self)
        try:
            path.write_bytes(content)
        except OSError as error:
            raise OutputError(f"cannot write {shown(path)}: {system_reason(error)}; name another file") from error
        return path


@torch.inference_mode()
def explain(
    checkpoint: AnyCheckpoint, image: ImageSource, config: GenerationConfig | None = None, *, caption: str | None = None
) -> Explanation:
    """Explain the model's own caption of ``image`` (by ``config``), or any other ``caption``.

    Raises ``ImageError`` for an unreadable image, ``UsageError`` for a caption that is empty or longer than the model's
    context, and for an option that needs a head the captioner lacks.
    """
    config = config or checkpoint.generation
    if caption is None:
        check_learnt(checkpoint, config)
    settings, tokenizer = checkpoint.config.preprocess, checkpoint.tokenizer
    photo = open_image(image, min_side=2 * settings.size)  # opened as for captioning
    pixels = preprocess(photo, settings)
    tokens = _encoded(checkpoint, caption) if caption is not None else ()
    encoded = encode(checkpoint, [pixels])
    if caption is None:
        [hypotheses], memory = caption_encoded(checkpoint, encoded, [pixels], config)
        if not hypotheses:
            raise ImageError(NOTHING_FITS)
        tokens, start = hypotheses[0].tokens, tokenizer.config.speaking(config.language).bos_id
        if not tokens:
            raise ImageError("the model's own caption is empty, so there is nothing to explain; give a caption")
    else:
        memory, start = checkpoint.model.remember(encoded), tokenizer.start_of_ids(tokens)
    log_probs, layers = read_again(checkpoint.model.decoder, memory, tokens, start)
    spans = word_spans(tokens, tokenizer)
    grid = _grid(memory)
    maps, off_grid = _maps([layer.weights for layer in layers], spans, memory.prefix, grid)
    global_maps = _maps([w for layer in layers if (w := layer.global_weights) is not None], spans, memory.prefix, grid)
    local_maps = _maps([w for layer in layers if (w := layer.local_weights) is not None], spans, memory.prefix, grid)
    gates = [layer.gate for layer in layers if layer.gate is not None]
    centres, spreads = _aims(layers, spans)
    return Explanation(
        photo=np.asarray(photo),
        view=view(photo.size, settings),
        caption=tokenizer.decode(tokens),
        words=tuple(word_texts(tokens, tokenizer)),
        probabilities=np.exp([log_probs[start:end].sum() for start, end in spans]),
        maps=maps,
        global_maps=global_maps[0] if len(global_maps[0]) else None,
        local_maps=local_maps[0] if len(local_maps[0]) else None,
        gates=_by_word(np.concatenate(gates).mean(0), spans) if gates else None,
        centres=centres,
        spreads=spreads,
        off_grid=off_grid,
        entropies=entropies(maps),
        tokens=tuple(tokens),
        spans=tuple(spans),
        layers=tuple(layers),
        labels=labels_of(
            checkpoint.config.labels,
            encoded.labels[0] if encoded.labels is not None else None,
            neutral=config.rules.neutral,
        ),
    )


def read_again(
    decoder: Decoder, memory: ImageMemory, tokens: Sequence[int], bos_id: int
) -> tuple[Array, list[LayerReads]]:
    """Return the log-probabilities (T,) of a caption under the only image in ``memory``, and each layer's attention."""
    device = memory.centres.device
    written = torch.tensor([[bos_id, *tokens[:-1]]], device=device)  # (1, T)
    reads: list[ImageRead] = []
    logits = decoder(written, memory, reads=reads)[0].float()  # (T, V)
    targets = torch.tensor([*tokens], device=device)[:, None]
    return logits.log_softmax(-1).gather(1, targets)[:, 0].double().cpu().numpy(), [_arrays(read) for read in reads]


def entropies(maps: Array) -> Array:
    """Return the entropy of each map of (W, h, w), in bits."""
    flat = maps.reshape(len(maps), -1)
    return -(flat * np.log2(np.maximum(flat, 1e-30))).sum(-1)  # (W,)


def _encoded(checkpoint: AnyCheckpoint, caption: str) -> tuple[int, ...]:
    tokens = tuple(checkpoint.tokenizer.encode(caption))
    most = checkpoint.config.decoder.context
    if not tokens:
        raise UsageError(
            "the caption to explain is empty; give some words, or omit it to explain the model's own caption"
        )
    if len(tokens) > most:
        raise UsageError(f"the caption {caption[:40]!r}... has {len(tokens)} tokens, the model reads {most}; cut it")
    return tokens


def _grid(memory: ImageMemory) -> tuple[int, int]:
    h = len(memory.centres[:, 0].unique())
    return h, len(memory.centres) // h


def _arrays(read: ImageRead) -> LayerReads:
    def array(value: torch.Tensor | None) -> Array | None:
        return None if value is None else value[0].float().cpu().numpy()

    return LayerReads(
        global_weights=array(read.global_weights),
        local_weights=array(read.local_weights),
        gate=array(read.gate),
        point=array(read.point),
        spread=array(read.spread),
    )


def _by_word(values: Array, spans: Sequence[tuple[int, int]]) -> Array:
    """Average over the tokens of each word: (T, ...) -> (W, ...)."""
    return np.stack([values[start:end].mean(0) for start, end in spans])


def _maps(
    weights: Sequence[Array], spans: Sequence[tuple[int, int]], prefix: int, grid: tuple[int, int]
) -> tuple[Array, Array]:
    """Average the layers' weights (H, T, S) by word on the grid, (W, h, w); also return the share off the grid (W,)."""
    if not weights:
        return np.empty(0), np.empty(0)
    read = _by_word(np.concatenate(weights).astype(np.float64).mean(0), spans)  # (W, S)
    off = read[:, :prefix].sum(1)  # (W,)
    on = read[:, prefix:]
    return (on / on.sum(1, keepdims=True)).reshape(-1, *grid), off


def _aims(layers: Sequence[LayerReads], spans: Sequence[tuple[int, int]]) -> tuple[Array | None, Array | None]:
    """Return mean and standard deviation per axis of the equal mixture of all Gaussians, over heads and tokens."""
    points = [layer.point for layer in layers if layer.point is not None]
    widths = [layer.spread for layer in layers if layer.spread is not None]
    if not points:
        return None, None
    point = np.concatenate(points).astype(np.float64)  # (layers * H, T, 2)
    width = np.concatenate(widths).astype(np.float64)  # (layers * H, T)
    centre = _by_word(point.mean(0), spans)  # (W, 2)
    second = _by_word((width**2 + (point**2).sum(-1) / 2).mean(0), spans)  # (W,), E[x^2] per axis
    return centre, np.sqrt(second - (centre**2).sum(-1) / 2)
