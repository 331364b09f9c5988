"""The preprocessing of any photo to a square of pixels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image

from captioner.config import PreprocessConfig
from captioner.data.transforms import augment, fit, may_flip, preprocess, view
from captioner.errors import ConfigError


def config(**settings: Any) -> PreprocessConfig:
    return PreprocessConfig(**{"size": 20, **settings})


def flag() -> Image.Image:
    """Return three equal stripes, red, green and blue, 60 x 20."""
    image = Image.new("RGB", (60, 20), (0, 255, 0))
    image.paste((255, 0, 0), (0, 0, 20, 20))
    image.paste((0, 0, 255), (40, 0, 60, 20))
    return image


def test_squash_keeps_everything() -> None:
    image = fit(flag(), config())
    assert image.size == (20, 20)
    assert [image.getpixel((x, 10)) for x in (2, 10, 17)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


@pytest.mark.parametrize("turned", [False, True])
def test_crop_keeps_the_centre(turned: bool) -> None:
    image = flag().transpose(Image.Transpose.ROTATE_90) if turned else flag()
    assert fit(image, config(aspect="crop")).getcolors() == [(400, (0, 255, 0))]


def test_a_zoom_keeps_the_centre_of_the_enlarged_square() -> None:
    large = flag().resize((90, 90), Image.Resampling.NEAREST)
    squashed, cropped = (config(aspect=aspect, zoom=3.0) for aspect in ("squash", "crop"))
    assert fit(large, squashed).crop((3, 0, 17, 20)).getcolors() == [(280, (0, 255, 0))]  # the filter reads beyond
    assert view((90, 90), squashed).photo == pytest.approx((1 / 3, 1 / 3, 2 / 3, 2 / 3))
    assert view((60, 20), cropped).photo == pytest.approx((4 / 9, 1 / 3, 5 / 9, 2 / 3))
    assert view((60, 20), cropped).square == (0, 0, 1, 1)
    half = fit(flag(), config(zoom=2.0))  # from a quarter to three quarters of the width
    assert [half.getpixel((x, 10)) for x in (0, 10, 19)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


@pytest.mark.parametrize("settings", [{"zoom": 0.5}, {"zoom": 9.0}, {"zoom": 1.5, "aspect": "pad"}])
def test_an_impossible_zoom(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"preprocess\.zoom must be from 1 to 8"):
        config(**settings)


def test_pad_keeps_everything_on_the_mean_colour() -> None:
    image = fit(flag(), config(aspect="pad", mean=(0.2, 0.4, 0.6)))
    assert image.size == (20, 20)
    assert image.getpixel((10, 1)) == image.getpixel((10, 18)) == (51, 102, 153)
    assert [image.getpixel((x, 10)) for x in (2, 10, 17)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert preprocess(image, config(mean=(0.2, 0.4, 0.6)))[:, 0, 0].abs().max() < 1e-6


@pytest.mark.parametrize("aspect", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 30_000), (30_000, 1), (7, 4)])
def test_no_shape_is_too_odd(aspect: str, size: tuple[int, int]) -> None:
    """Without a crop before scaling, a strip of 1 x 30,000 would become 288 x 8,640,000."""
    assert preprocess(Image.new("RGB", size), config(aspect=aspect, size=288)).shape == (3, 288, 288)


def test_pixels_are_normalised_per_channel() -> None:
    pixels = preprocess(Image.new("RGB", (4, 4), (255, 0, 51)), config(mean=(0.5, 0.1, 0.0), std=(0.5, 0.2, 0.1)))
    assert pixels.dtype == torch.float32
    assert pixels[:, 3, 7].tolist() == pytest.approx([1.0, -0.5, 2.0])


def test_the_filter_is_the_configs() -> None:
    image = Image.effect_noise((64, 64), 80).convert("RGB")
    bilinear, bicubic = (preprocess(image, config(interpolation=name)) for name in ("bilinear", "bicubic"))
    assert not bilinear.equal(bicubic)


def test_augmented_views_differ_and_keep_off_the_runs_random_numbers() -> None:
    before = torch.get_rng_state()
    views = [augment(flag(), config(), flip=False, seed=seed) for seed in range(4)]
    assert torch.get_rng_state().equal(before)
    assert all(view.shape == (3, 20, 20) for view in views)
    assert len({view.sum().item() for view in views}) == 4


@pytest.mark.parametrize(
    ("caption", "allowed"),
    [
        ("a dog on the left", False),
        ("Right-handed batter", False),
        ("the RIGHTMOST house", False),
        ("walking leftwards", False),
        ("leftover cake on a bright table", True),
        ("a copyright sign", True),
        ("a dog", True),
        ("一只狗在男人的左边", False),
        ("一只狗坐在男人旁边", True),
        ("a lefthanded pitcher", False),
        ("a righthander at bat", False),
        ("1girl, left_hand_up", False),
        ("ein Hund links im Bild", False),
        ("in der rechten Hand", False),
        ("un chien à gauche", False),
        ("sur le côté droit", False),
        ("un perro a la izquierda", False),
        ("una puesta de sol con una mujer", True),
        ("un cane sulla destra", False),
        ("um cão à esquerda", False),
        ("een hond in zijn linkerhand", False),
        ("pies po lewej stronie", False),
        ("собака слева от человека", False),
        ("лев лежит на траве", True),
        ("en hund till va\u0308nster", False),
        ("개가 왼쪽에 있다", False),
        ("みぎに犬がいる", False),
        ("köpek solda duruyor", False),
        ("adamın sağında bir köpek", False),
        ("كلب على اليسار", False),
        ("बाईं ओर एक कुत्ता", False),
        ("एक कुत्ता दौड़ रहा है", True),
        ("con chó ở bên phải", False),
        ("สุนัขทางซ้าย", False),
        ("ein Rechteck und ein Hund", True),
    ],
)
def test_sides_forbid_the_mirror(caption: str, allowed: bool) -> None:
    assert may_flip(["a dog", caption]) is allowed


@pytest.mark.parametrize(("aspect", "photo", "square"), [("squash", 1, 1), ("crop", 1 / 3, 1), ("pad", 1, 1 / 3)])
def test_the_view_is_what_fit_keeps(aspect: Any, photo: float, square: float) -> None:
    found = view((60, 20), config(aspect=aspect))
    assert found.photo == pytest.approx(((1 - photo) / 2, 0, (1 + photo) / 2, 1))
    assert found.square == pytest.approx((0, (1 - square) / 2, 1, (1 + square) / 2))
    turned = view((20, 60), config(aspect=aspect))
    assert turned.photo == pytest.approx((0, (1 - photo) / 2, 1, (1 + photo) / 2))
    assert turned.square == pytest.approx(((1 - square) / 2, 0, (1 + square) / 2, 1))
