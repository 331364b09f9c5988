"""Maps on photos, for any part of the photo that the model saw."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from captioner.config import PreprocessConfig
from captioner.data.transforms import fit, view
from captioner.explain.overlay import DARKEST, light, lit, on_photo, over_photo, reach

SIZES = [(60, 40), (40, 60), (50, 50)]


@pytest.mark.parametrize("aspect", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spot", [(0.5, 0.5), (0.55, 0.35), (0.36, 0.62)])
def test_a_spot_of_the_photo_is_lit_where_it_is(aspect: str, size: tuple[int, int], spot: tuple[float, float]) -> None:
    """A bright spot, mapped to the model's square and back, is bright at the same place."""
    config = PreprocessConfig(size=96, aspect=aspect)  # type: ignore[arg-type]
    width, height = size
    x, y = spot[0] * width, spot[1] * height
    photo = np.zeros((height, width), np.uint8)
    photo[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4] = 255
    square = np.asarray(fit(Image.fromarray(photo).convert("RGB"), config))[..., 0].astype(float)
    if aspect == "pad":
        square[square == round(255 * config.mean[0])] = 0  # the border
    grid = square.reshape(12, 8, 12, 8).mean((1, 3))
    found = over_photo(grid, view(size, config), size)
    assert found.shape == (height, width)
    rows, columns = np.mgrid[:height, :width] + 0.5
    peak = found > 0.5 * found.max()
    assert rows[peak].mean() == pytest.approx(int(y) + 0.5, abs=2.5)
    assert columns[peak].mean() == pytest.approx(int(x) + 0.5, abs=2.5)


def test_what_was_cut_off_was_not_seen() -> None:
    config = PreprocessConfig(size=96, aspect="crop")
    found = over_photo(np.ones((3, 3)), view((60, 40), config), (60, 40))
    assert found[:, :10].max() == found[:, 50:].max() == 0
    np.testing.assert_allclose(found[:, 10:50], 1, atol=1e-5)


@pytest.mark.parametrize("aspect", ["squash", "crop", "pad"])
def test_an_extreme_shape_takes_no_more_room_than_the_photo(aspect: str) -> None:
    config = PreprocessConfig(size=96, aspect=aspect)  # type: ignore[arg-type]
    for size in ((1, 20_000), (20_000, 1)):
        assert over_photo(np.ones((3, 3)), view(size, config), size).shape == size[::-1]


def test_points_and_lengths_move_with_the_view() -> None:
    centre = np.array([0.25, 0.75])
    assert on_photo(centre, view((60, 40), PreprocessConfig(aspect="squash"))) == (0.75, 0.25)
    crop = view((60, 40), PreprocessConfig(aspect="crop"))
    assert on_photo(centre, crop) == pytest.approx(((10 + 0.75 * 40) / 60, 0.25))
    assert reach(0.3, crop) == pytest.approx((0.3 * 40 / 60, 0.3))
    pad = view((60, 40), PreprocessConfig(aspect="pad"))
    assert on_photo(np.array([10 / 60, 0.5]), pad) == pytest.approx((0.5, 0.0))
    assert reach(0.3, pad) == pytest.approx((0.3, 0.45))


def test_light_is_full_at_the_highest_place() -> None:
    assert light(np.array([[1.0, 2.0], [5.0, 17.0]])).tolist() == [[0, 0.25], [0.5, 1]]
    assert light(np.full((2, 2), 0.25)).tolist() == [[1, 1], [1, 1]]
    photo = np.full((1, 2, 3), 100, np.uint8)
    assert lit(photo, np.array([[0.0, 1.0]])).tolist() == [[[round(100 * DARKEST)] * 3, [100] * 3]]
