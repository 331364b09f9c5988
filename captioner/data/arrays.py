"""Images from numpy arrays and torch tensors."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard

from PIL import Image

from captioner.data.items import Refused

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

ROWS = 64  # rows per step: floats of a whole image would take eight times the memory of its bytes
_REMEDY = "convert it with PIL.Image.fromarray"


def is_array(value: object) -> TypeGuard[NDArray[Any] | Tensor]:
    """Return whether ``value`` is a tensor or a numeric array; an array of strings may be a list of paths.

    It imports neither package.
    """
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return True
    return numpy is not None and isinstance(value, numpy.ndarray) and value.dtype.kind in "biufc"


def image_of_array(array: NDArray[Any] | Tensor) -> Image.Image:
    """Return the image of an array (H, W, 3), (H, W) or (3, H, W), of uint8 or of floats from 0 to 1.

    If the first and the last axis both have length 3, the last one holds the colours. Raises ``Refused``.
    """
    import numpy as np

    values: NDArray[Any] = array if isinstance(array, np.ndarray) else _of_tensor(array)
    if values.ndim == 3 and values.shape[2] != 3 and values.shape[0] == 3:
        values = values.transpose(1, 2, 0)
    if values.ndim not in (2, 3) or values.shape[2:] not in ((), (3,)):
        shape = " x ".join(map(str, values.shape)) or "one number"
        raise Refused(
            f"an array must be one image of H x W x 3, 3 x H x W or H x W, not {shape}; pass several images as a list, "
            f"or {_REMEDY}"
        )
    if not values.size:
        raise Refused("it has no pixels")
    if values.dtype != np.uint8:
        values = _eight_bits(values)
    return Image.fromarray(np.ascontiguousarray(values))


def _of_tensor(tensor: Tensor) -> NDArray[Any]:
    values = tensor.detach().cpu()
    array: NDArray[Any] = (values.float() if values.is_floating_point() else values).numpy()  # numpy has no bf16
    return array


def _eight_bits(values: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    if values.dtype.kind != "f":
        raise Refused(f"an array of pixels must be uint8 or floats from 0 to 1, not {values.dtype}; {_REMEDY}")
    least, most = float(values.min()), float(values.max())
    if not (least >= 0 and most <= 1):  # True for NaN
        raise Refused(f"floats must be from 0 to 1, not from {least:g} to {most:g}; {_REMEDY}")
    pixels: NDArray[Any] = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), ROWS):
        pixels[start : start + ROWS] = np.rint(values[start : start + ROWS] * 255)
    return pixels
