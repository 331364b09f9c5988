"""Images that are numbers already: numpy's arrays and torch's tensors."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard

from PIL import Image

from captioner.data.items import Refused

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

ROWS = 64  # at once: floats of a whole image would take eight times the memory of its bytes
_REMEDY = "make an image of it with PIL.Image.fromarray"


def is_array(given: object) -> TypeGuard[NDArray[Any] | Tensor]:
    """Whether it is a tensor, or an array of numbers; one of texts may be a list of paths.

    A package that was never imported has made neither.
    """
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if torch is not None and isinstance(given, torch.Tensor):
        return True
    return numpy is not None and isinstance(given, numpy.ndarray) and given.dtype.kind in "biufc"


def image_of_array(given: NDArray[Any] | Tensor) -> Image.Image:
    """One image of (H, W, 3), (H, W) or (3, H, W), of uint8 or of floats from 0 to 1.

    Where the first and the last axis are both 3 long, the last one has the colours. Raises ``Refused``.
    """
    import numpy as np

    values: NDArray[Any] = given if isinstance(given, np.ndarray) else _of_tensor(given)
    if values.ndim == 3 and values.shape[2] != 3 and values.shape[0] == 3:
        values = values.transpose(1, 2, 0)
    if values.ndim not in (2, 3) or values.shape[2:] not in ((), (3,)):
        shape = " x ".join(map(str, values.shape)) or "one number"
        raise Refused(
            f"an array is one image of H x W x 3, 3 x H x W or H x W, and this one is {shape}; give several as a list, "
            f"or {_REMEDY}"
        )
    if not values.size:
        raise Refused("it has no pixels")
    if values.dtype != np.uint8:
        values = _eight_bits(values)
    return Image.fromarray(np.ascontiguousarray(values))


def _of_tensor(given: Tensor) -> NDArray[Any]:
    values = given.detach().cpu()
    found: NDArray[Any] = (values.float() if values.is_floating_point() else values).numpy()  # numpy has no bf16
    return found


def _eight_bits(values: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    if values.dtype.kind != "f":
        raise Refused(f"an array of pixels is uint8 or floats from 0 to 1, not {values.dtype}; {_REMEDY}")
    least, most = float(values.min()), float(values.max())
    if not (least >= 0 and most <= 1):  # NaN is neither
        raise Refused(f"floats are pixels from 0 to 1, and these go from {least:g} to {most:g}; {_REMEDY}")
    found: NDArray[Any] = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), ROWS):
        found[start : start + ROWS] = np.rint(values[start : start + ROWS] * 255)
    return found
