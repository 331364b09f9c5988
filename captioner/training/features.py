"""Features on disk: the output of a frozen backbone, or of its layers below the trained ones, for every epoch."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import write_array_header_1_0
from PIL import ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from captioner.config import to_dict
from captioner.data.samples import Sample
from captioner.data.transforms import augment, may_flip, preprocess
from captioner.errors import TrainingError
from captioner.models.captioner import Captioner
from captioner.models.halves import cut_below, lower_weights
from captioner.models.norms import fold_norms
from captioner.models.vision import Features
from captioner.system.disk import put_in_place
from captioner.training.loading import load_ahead, open_training_image

MIRRORED = 1  # the place of the mirror image among the views of a photo; 0 is the photo itself


class FeatureStore:
    """Features of several views of each image, fp16 on disk: (images, views, S, C).

    View 0 is the photo, view 1 its mirror image; ``augment`` draws the others. ``of_no_image``: the features of an
    empty batch, with the grid, the prefix and the blocks of the backbone that still have to run.
    """

    def __init__(self, path: Path, of_no_image: Features) -> None:
        self.values = np.load(path, mmap_mode="r")
        self.of_no_image = of_no_image

    def view(self, place: int, view: int) -> Tensor:
        """Return the features of one view, (S, C), fp32."""
        return torch.from_numpy(self.values[place, view].astype(np.float32))

    def draw(self, draw: random.Random, *, flip: bool) -> int:
        """Return a random view; the mirror image only with ``flip`` (drawn views respect it already)."""
        views = [view for view in reversed(range(self.values.shape[1])) if flip or view != MIRRORED]
        return views[int(draw.random() * len(views))]


class _Views(Dataset[Tensor]):
    """The views of each image as pixels (views, 3, size, size)."""

    def __init__(self, samples: Sequence[Sample], model: Captioner, views: int) -> None:
        self.samples, self.preprocess, self.views = samples, model.config.preprocess, views

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int) -> Tensor:
        sample, config = self.samples[place], self.preprocess
        image = open_training_image(sample)
        views = [preprocess(image, config), preprocess(ImageOps.mirror(image), config)][: self.views]
        flip = may_flip(sample.captions)
        views += [augment(image, config, flip=flip, seed=seed) for seed in range(place, place + self.views - 2)]
        return torch.stack(views)


def _stack(views: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(views))


@torch.inference_mode()
def build_store(
    model: Captioner,
    samples: Sequence[Sample],
    directory: Path,
    *,
    views: int = 2,
    blocks: int | None = None,
    workers: int,
    device: torch.device,
    report: Callable[[str], None],
) -> FeatureStore:
    """Return the features of ``samples``; reuse the file in ``directory`` if it holds the same ones.

    They are the output of the backbone, or of its first ``blocks`` blocks, for ``views`` views of each image.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"features-{_fingerprint(model, samples, views, blocks)}.npy"
    size = model.config.preprocess.size
    vision = copy.deepcopy(model.vision).eval().requires_grad_(False)

    def features(pixels: Tensor) -> Features:
        return vision.features(pixels) if blocks is None else vision.lower_features(pixels, blocks)

    probe = features(torch.zeros(1, 3, size, size, device=device))
    of_no_image = replace(probe, values=probe.values[:0])
    if path.exists():
        return FeatureStore(path, of_no_image)
    fold_norms(vision, size)  # EfficientNet-Lite3 in bf16: 22 images a second for 16
    shape = (len(samples), views, *probe.values.shape[1:])
    partial = path.with_suffix(".partial")
    done = 0
    each = max(1, 16 // views)
    keys = [range(start, min(start + each, len(samples))) for start in range(0, len(samples), each)]
    try:
        with partial.open("wb") as file:  # written in order, not mapped: a full disk is an error, not a bus error
            write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
            for pixels in load_ahead(_Views(samples, model, views), keys, _stack, workers=workers):
                values = features(pixels.flatten(0, 1).to(device)).values  # (B * views, S, C)
                file.write(values.half().cpu().numpy().astype("<f2").tobytes())
                done += len(pixels)
                if done % 512 < each or done == len(samples):
                    report(f"features of {done} / {len(samples)} images")
        put_in_place(partial, path)
    except OSError as error:
        raise TrainingError(
            f"cannot write the features of {len(samples)} images to {directory}: {error}; free some space (they take "
            f"{2 * math.prod(shape) / 1e9:.1f} GB) or set cache_features to false"
        ) from error
    finally:  # after an unreadable photo or Ctrl-C too; a finished file has its own name by now
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return FeatureStore(path, of_no_image)


def cached_blocks(model: Captioner, *, frozen: bool) -> int | None:
    """Return the number of the backbone's blocks whose output can be cached; None for the whole backbone's.

    They are those below the trained ones, and below those that a classifier of labels does not share.
    """
    vision = model.vision
    trained = [name for name, parameter in vision.backbone.named_parameters() if parameter.requires_grad]
    limits = [None if frozen else cut_below(vision.backbone, trained), vision.shared_blocks]
    return min((limit for limit in limits if limit is not None), default=None)


def _fingerprint(model: Captioner, samples: Sequence[Sample], views: int, blocks: int | None) -> str:
    """Return a digest of the backbone's weights and precision, the preprocessing, the views and the images."""
    digest = hashlib.sha256(repr((to_dict(model.config.preprocess), views, blocks)).encode())
    digest.update(_precision(model).encode())
    backbone = model.vision.backbone
    for value in backbone.state_dict().values() if blocks is None else lower_weights(backbone, blocks):
        digest.update(value.detach().cpu().float().numpy().tobytes())  # a sum would depend on the number of threads
    state = lru_cache(maxsize=1024)(_state)  # all images of a tar share one
    for sample in samples:
        place = "" if sample.span is None else f" {sample.span}"
        digest.update(f"{state(sample.path)}{place}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _state(path: Path) -> str:
    """Return the path, size and time of a file: a photo that is replaced in place is another photo."""
    try:
        stat = path.stat()
    except OSError:  # opening the photo reports it
        return str(path)
    return f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"


def _precision(model: Captioner) -> str:
    """Return the precision of the backbone's products: autocast's if it is on, else the weights'."""
    weight = next(model.vision.backbone.parameters())
    device = weight.device.type
    return str(torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype)
