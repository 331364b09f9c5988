"""The output of a frozen backbone, computed once and kept on disk for every epoch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import write_array_header_1_0
from PIL import ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from captioner.config import to_dict
from captioner.data.samples import Sample
from captioner.data.transforms import preprocess
from captioner.errors import TrainingError
from captioner.models.captioner import Captioner
from captioner.training.loading import load_ahead, open_training_image


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
        image = open_training_image(self.samples[place])
        return torch.stack([preprocess(view, self.preprocess) for view in (image, ImageOps.mirror(image))])


def _stack(views: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(views))


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
    done = 0
    keys = [range(start, min(start + 16, len(samples))) for start in range(0, len(samples), 16)]
    try:
        with partial.open("wb") as file:  # in order and not mapped: a full disk is then an error, not a bus error
            write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
            for views in load_ahead(_Views(samples, model), keys, _stack, workers=workers):
                values = backbone.features(views.flatten(0, 1).to(device)).values  # (2B, S, C)
                file.write(values.half().cpu().numpy().astype("<f2").tobytes())
                done += len(views)
                if done % 512 < 16:
                    report(f"features of {done} / {len(samples)} images")
        partial.rename(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise TrainingError(
            f"cannot keep the features of {len(samples)} images in {directory}: {error}; free some space (they take "
            f"{2 * math.prod(shape) / 1e9:.1f} GB) or set cache_features to false"
        ) from error
    return FeatureStore(path, probe.grid, probe.prefix)


def _fingerprint(model: Captioner, samples: Sequence[Sample]) -> str:
    """Of the backbone's weights, the preprocessing and the images: another of any means other features."""
    digest = hashlib.sha256(repr(to_dict(model.config.preprocess)).encode())
    for value in model.vision.backbone.state_dict().values():
        digest.update(value.detach().float().sum().cpu().numpy().tobytes())
        digest.update(value.detach().float().square().sum().cpu().numpy().tobytes())
    for sample in samples:
        place = "" if sample.span is None else f" {sample.span}"
        digest.update(f"{sample.path.resolve()}{place}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]
