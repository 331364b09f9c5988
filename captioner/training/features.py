"""The output of a frozen backbone, computed once and kept on disk for every epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from PIL import ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from captioner.config import to_dict
from captioner.data.images import open_image
from captioner.data.samples import Sample
from captioner.data.transforms import preprocess
from captioner.models.captioner import Captioner


class FeatureStore:
    """Features of each image as it is and mirrored, fp16 on disk: (images, 2, S, C)."""

    def __init__(self, path: Path, grid: tuple[int, int], prefix: int) -> None:
        self.values = np.load(path, mmap_mode="r")
        self.grid, self.prefix = grid, prefix

    def view(self, place: int, *, mirrored: bool) -> Tensor:
        """(S, C), fp32."""
        return torch.from_numpy(self.values[place, int(mirrored)].astype(np.float32))


class _Views(Dataset[Tensor]):
    """Both views of each image as pixels (2, 3, size, size)."""

    def __init__(self, samples: Sequence[Sample], model: Captioner) -> None:
        self.samples, self.preprocess = samples, model.config.preprocess

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int) -> Tensor:
        image = open_image(self.samples[place].path)
        return torch.stack([preprocess(view, self.preprocess) for view in (image, ImageOps.mirror(image))])


@torch.inference_mode()
def build_store(
    model: Captioner,
    samples: Sequence[Sample],
    directory: Path,
    *,
    workers: int,
    device: torch.device,
    report: Callable[[str], None],
) -> FeatureStore:
    """Features of ``samples`` under the model's backbone, from ``directory`` where the same ones lie already."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"features-{_fingerprint(model, samples)}.npy"
    backbone = model.vision.eval()
    size = model.config.preprocess.size
    probe = backbone.features(torch.zeros(1, 3, size, size, device=device))
    if path.exists():
        return FeatureStore(path, probe.grid, probe.prefix)
    shape = (len(samples), 2, *probe.values.shape[1:])
    partial = path.with_suffix(".partial")
    kept = open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
    loader: DataLoader[Any] = DataLoader(_Views(samples, model), batch_size=16, num_workers=workers)
    done = 0
    for views in loader:
        values = backbone.features(views.flatten(0, 1).to(device)).values.unflatten(0, (-1, 2))  # (B, 2, S, C)
        kept[done : done + len(views)] = values.half().cpu().numpy()
        done += len(views)
        if done % 512 < 16:
            report(f"features of {done} / {len(samples)} images")
    kept.flush()
    partial.rename(path)
    return FeatureStore(path, probe.grid, probe.prefix)


def _fingerprint(model: Captioner, samples: Sequence[Sample]) -> str:
    """Of the backbone's weights, the preprocessing and the images: another of any means other features."""
    digest = hashlib.sha256(repr(to_dict(model.config.preprocess)).encode())
    for value in model.vision.backbone.state_dict().values():
        digest.update(value.detach().float().sum().cpu().numpy().tobytes())
        digest.update(value.detach().float().square().sum().cpu().numpy().tobytes())
    for sample in samples:
        digest.update(f"{sample.path.resolve()}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]
