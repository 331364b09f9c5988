"""Hostile and odd images become upright RGB or one error sentence."""

from __future__ import annotations

import io
import os
import socket
import struct
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw
from PIL.PngImagePlugin import PngInfo

from captioner.data.images import image_size, open_image
from captioner.errors import ImageError

# Upright pixels from stored ones, as the EXIF specification defines the tag's values.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


def photo(width: int = 32, height: int = 48) -> Image.Image:
    """Return four quarters of different colours: every rotation and flip changes the image."""
    image = Image.new("RGB", (width, height), (250, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rectangle((width // 2, 0, width, height // 2 - 1), fill=(0, 250, 0))
    draw.rectangle((0, height // 2, width // 2 - 1, height), fill=(0, 0, 250))
    draw.rectangle((width // 2, height // 2, width, height), fill=(240, 240, 240))
    return image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that declares a size and holds almost no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def refusal(source: object, **options: object) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(source, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(kind: str, orientation: int) -> None:
    if f".{kind.lower()}" not in Image.registered_extensions():
        pytest.skip(f"this Pillow has no {kind}")
    stored = photo()
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"tiffinfo": {0x0112: orientation}} if kind == "TIFF" else {"exif": exif.tobytes()}
    image = open_image(data := encoded(stored, kind, quality=95, **options))
    expected = UPRIGHT[orientation](np.asarray(stored).astype(int))
    assert image.size == image_size(data) == image_size(Image.open(io.BytesIO(data))) == expected.shape[1::-1]
    centres = [(x, y) for x in (1, 3) for y in (1, 3)]
    for x, y in centres:
        x, y = x * image.width // 4, y * image.height // 4
        assert np.abs(np.array(image.getpixel((x, y))) - expected[y, x]).max() < 25
    assert np.array_equal(np.asarray(open_image(image)), np.asarray(image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    whole = heic(photo(), exif=exif.tobytes())
    image = open_image(whole)
    expected = UPRIGHT[orientation](np.asarray(photo()).astype(int))
    assert image.size == image_size(whole) == expected.shape[1::-1]
    for x, y in [(x * image.width // 4, y * image.height // 4) for x in (1, 3) for y in (1, 3)]:
        assert np.abs(np.array(image.getpixel((x, y))) - expected[y, x]).max() < 25
    assert "HEIF" not in Image.OPEN, "Pillow is as it was"
    for part in (16, 24, 100, len(whole) // 2, len(whole) - 3):
        assert any(word in refusal(whole[:part]) for word in ("cut off", "truncated", "damaged"))


def test_what_to_install_for_heic_and_avif(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for brand in (b"heic", b"mif1"):
        assert refusal(b"\0\0\0\x18ftyp" + brand + bytes(40)).endswith("pillow-heif: pip install 'captioner[heif]'")
    monkeypatch.setitem(Image.OPEN, "AVIF", (Image.OPEN["AVIF"][0], lambda prefix: "not supported"))
    assert refusal(b"\0\0\0\x18ftypavif" + bytes(40)).endswith("needs a newer Pillow: pip install -U pillow")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "HEIF", "WEBP"])
def test_what_comes_back_is_a_plain_image_of_its_own(kind: str, tmp_path: Path) -> None:
    data = encoded(photo(), kind) if kind != "HEIF" else heic(photo())
    image = open_image(data)
    assert type(image) is Image.Image
    assert (image.info, dict(image.getexif())) == ({}, {})
    image.putpixel((0, 0), (1, 2, 3))
    assert open_image(data).getpixel((0, 0)) != (1, 2, 3)
    image.save(tmp_path / "a.png")
    given = photo()
    open_image(given).putpixel((0, 0), (1, 2, 3))
    assert given.getpixel((0, 0)) == (250, 0, 0), "the caller's image is as it was"


def heic(image: Image.Image, **options: object) -> bytes:
    data = io.BytesIO()
    pytest.importorskip("pillow_heif").from_pillow(image).save(data, quality=95, **options)
    return data.getvalue()


def test_texts_too_large_for_pillow_are_left_out() -> None:
    info = PngInfo()
    info.add_text("workflow", "x" * (2 << 20), zip=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    for options in ({"pnginfo": info}, {"icc_profile": bytes(2 << 20)}):
        data = encoded(photo(), "PNG", exif=exif, **options)
        assert open_image(data).size == image_size(data) == (48, 32)
        assert "truncated" in refusal(data[: len(data) // 2])


def test_damaged_exif_is_ignored() -> None:
    data = encoded(photo(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert open_image(data).size == (32, 48)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGBA", (0, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (200, 0, 0, 255), (200, 0, 0)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ("LA", (10, 0), (255, 255, 255)),
        ("LA", (10, 255), (10, 10, 10)),
        ("La", (0, 0), (255, 255, 255)),
        ("PA", (0, 0), (255, 255, 255)),
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("YCbCr", (128, 128, 128), (128, 128, 128)),
        ("HSV", (0, 255, 255), (255, 0, 0)),
        ("LAB", (255, 128, 128), (255, 255, 255)),
    ],
)
def test_modes_become_rgb(mode: str, colour: object, expected: tuple[int, int, int]) -> None:
    image = open_image(Image.new(mode, (3, 2), colour))  # type: ignore[arg-type]
    assert (image.mode, image.size) == ("RGB", (3, 2))
    assert np.abs(np.array(image.getpixel((2, 1))) - expected).max() <= (mode == "LAB")


def test_transparency_of_palette_and_single_colour_is_laid_on_white() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 9, 9, 200, 0, 0])
    palette.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF"):
        image = open_image(encoded(palette, kind, transparency=0))
        assert [image.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (200, 0, 0)]
    keyed = Image.new("RGB", (2, 1), (1, 2, 3))
    keyed.putpixel((0, 0), (4, 5, 6))
    image = open_image(encoded(keyed, "PNG", transparency=(1, 2, 3)))
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(4, 5, 6), (255, 255, 255)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 128, 129, 257, 65535]], dtype=np.uint16), [0, 0, 1, 1, 255]),
        (np.array([[0, 128, 129, 65535]], dtype=np.int32), [0, 0, 1, 255]),
        (np.array([[-1000, 0, 1000]], dtype=np.int32), [0, 128, 255]),
        (np.array([[0.0, 0.2, 0.5]], dtype=np.float32), [0, 51, 128]),
        (np.array([[-2.0, 0.0, 3.0]], dtype=np.float32), [0, 102, 255]),
        (np.array([[np.nan, np.inf, 1.0]], dtype=np.float32), [0, 0, 255]),
        (np.array([[7.0, 7.0]], dtype=np.float32), [0, 0]),
    ],
)
def test_deep_pixels_become_eight_bits(values: np.ndarray, expected: list[int]) -> None:
    image = open_image(encoded(Image.fromarray(values), "TIFF"))
    grey = np.asarray(image)[0]
    assert np.abs(grey - np.array(expected)[:, None]).max() <= (1 if 128 in expected else 0)
    if values.dtype == np.uint16:
        assert np.array_equal(np.asarray(open_image(encoded(Image.fromarray(values), "PNG")))[0], grey)


def test_cmyk_jpeg_has_its_colours() -> None:
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    red, green, blue = open_image(data).getpixel((8, 8))
    assert (red > 240, green < 15, blue < 15) == (True, True, True)


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "PNG", "WEBP"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
        red, _, blue = open_image(data).getpixel((4, 4))
        assert red > 240 > 15 > blue


def swapped_profile(name: str = "test built-in") -> bytes:
    """Return an RGB profile with red and green exchanged: its red is green in sRGB."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert "sRGB built-in".encode("utf-16-be") in profile
    profile = profile.replace("sRGB built-in".encode("utf-16-be"), name.ljust(13).encode("utf-16-be"))
    return profile.replace(b"rXYZ", b"tmp!").replace(b"gXYZ", b"rXYZ").replace(b"tmp!", b"gXYZ")


def test_colour_profile_is_converted_to_srgb_once() -> None:
    data = encoded(Image.new("RGB", (4, 4), (255, 0, 0)), "PNG", icc_profile=swapped_profile())
    image = open_image(data)
    red, green, blue = image.getpixel((0, 0))
    assert (red < 5, green > 250, blue < 5) == (True, True, True)
    assert open_image(image).getpixel((0, 0)) == (red, green, blue)


@pytest.mark.parametrize(("name", "expected"), [("sRGB", "red"), ("sRGB linear", "green")])
def test_profile_called_srgb_is_not_worth_a_conversion(name: str, expected: str) -> None:
    image = Image.new("RGB", (4, 4), (255, 0, 0))
    image.info["icc_profile"] = swapped_profile(name)
    red, green, _ = open_image(image).getpixel((0, 0))
    assert expected == ("red" if red > green else "green")


@pytest.mark.parametrize("profile", [b"garbage", b"", "truncated", "for another mode"])
def test_unusable_colour_profile_is_ignored(profile: bytes | str) -> None:
    image = Image.new("RGB", (4, 4), (200, 10, 20))
    if profile == "for another mode":
        image = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    image.info["icc_profile"] = swapped_profile()[:200] if profile == "truncated" else profile
    if isinstance(profile, str) and profile != "truncated":
        image.info["icc_profile"] = swapped_profile()
    assert open_image(image).getpixel((0, 0)) == Image.Image.convert(image, "RGB").getpixel((0, 0))


def test_all_sources_give_the_same_pixels(tmp_path: Path) -> None:
    data = encoded(photo(), "PNG")
    path = tmp_path / os.fsdecode(b"caf\xe9 [1].png")
    path.write_bytes(data)
    expected = np.asarray(photo())
    at_end = io.BytesIO(data)
    at_end.read()
    with path.open("rb") as file, path.open("rb", buffering=0) as raw:
        for source in (str(path), path, data, bytearray(data), at_end, file, raw, Image.open(path)):
            assert np.array_equal(np.asarray(open_image(source)), expected)  # type: ignore[arg-type]
        assert not file.closed


def test_stream_that_cannot_seek() -> None:
    ours, theirs = socket.socketpair()
    with ours, ours.makefile("rb") as stream:
        theirs.sendall(encoded(photo(), "PNG"))
        theirs.close()
        assert open_image(stream).size == (32, 48)


def test_pil_image_stays_as_it_is() -> None:
    image = photo()
    image.info["exif"] = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    turned = open_image(image)
    assert turned.size == (48, 32)
    turned.paste((0, 0, 0), (0, 0, 48, 32))
    assert "exif" in image.info
    assert np.array_equal(np.asarray(image), np.asarray(photo()))


def test_min_side_decodes_jpeg_smaller_but_never_below() -> None:
    data = encoded(photo(800, 600), "JPEG")
    assert open_image(data).size == (800, 600)
    assert open_image(data, min_side=288).size == (400, 300)
    assert open_image(data, min_side=75).size == (100, 75)
    assert open_image(data, min_side=76).size == (200, 150)
    assert open_image(data, min_side=601).size == (800, 600)
    assert open_image(encoded(photo(800, 600), "PNG"), min_side=10).size == (800, 600)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("kept", [0.03, 0.5, 0.99])
def test_cut_off_file_is_refused(kind: str, kept: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    path = tmp_path / "cut.jpg"
    path.write_bytes(data[: int(len(data) * kept)])
    message = refusal(path)
    assert str(path) in message
    assert any(word in message for word in ("truncated", "cut off", "damaged"))


def test_refusals_name_the_file_and_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "notes.jpg").write_text("not a picture at all, but a long enough text")
    (tmp_path / "note.jpg").write_text("no")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    for name, reason in {
        "gone.jpg": "there is no such file",
        "empty.jpg": "it is empty",
        "notes.jpg": "not an image",
        "note.jpg": "not an image",
        "link.jpg": "a link to a file that does not exist",
        "circle.jpg": "symbolic links",
        "phone.heic": "its HEIF header is damaged or truncated",
        "empty.jpg/x.jpg": "not a directory",
        "x" * 5000: "too long",
        "a\0b": "not a valid file name",
    }.items():
        message = refusal(str(tmp_path / name))
        assert reason in message
        assert message.startswith(f"cannot read {tmp_path}")
    assert "it is a folder" in refusal(tmp_path)
    assert refusal("one\ntwo\udcff.jpg").startswith(r"cannot read one\ntwo\udcff.jpg: ")


def test_other_things_are_refused_by_what_they_are() -> None:
    assert "it is empty" in refusal(b"")
    assert "it is empty" in refusal(io.BytesIO())
    assert "text mode" in refusal(io.StringIO("text"))
    assert "a path, bytes" in refusal(None)
    assert "a path, bytes" in refusal(object())
    assert "Image.fromarray" in refusal(np.zeros(2))
    assert "no pixels" in refusal(Image.new("I", (0, 5)))
    closed = Image.open(io.BytesIO(encoded(photo(), "PNG")))
    closed.close()
    assert "closed" in refusal(closed)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipe_and_device_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "not a file" in refusal(tmp_path / "pipe.jpg")
    assert "not a file" in refusal(os.devnull)


def test_forbidden_file(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(photo(), "PNG"))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert refusal(path) == f"cannot read {path}: permission denied"


def test_bomb_is_refused_from_its_header_alone() -> None:
    assert "60000 x 60000 pixels exceed the limit of 200 megapixels" in refusal(png_header(60000, 60000))
    assert "48 x 32" in refusal(Image.new("RGB", (48, 32)), max_pixels=48 * 32 - 1)
    assert open_image(Image.new("RGB", (48, 32)), max_pixels=48 * 32).size == (48, 32)
    assert "truncated" in refusal(png_header(14000, 14000))  # above Pillow's limit and below ours: only its data fails


def test_pillows_own_limit_neither_warns_nor_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (1000, 100):  # Pillow warns above its limit and refuses above its double
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for kind in ("JPEG", "PNG", "BMP", "GIF"):
                assert open_image(encoded(photo(), kind)).size == (32, 48)
        assert limit == Image.MAX_IMAGE_PIXELS


def test_pillows_warnings_are_silent_in_threads_and_filters_come_back() -> None:
    palette = encoded(Image.new("P", (64, 64)), "PNG", transparency=b"\x00\x80")
    exif = encoded(photo(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\0\0\x06\0\0\0\0\0\0\0")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        work = [threading.Thread(target=lambda: [open_image(d) for d in (palette, exif) * 20]) for _ in range(4)]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        assert warnings.filters == before
    assert [str(warning.message) for warning in caught] == []


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO"])
def test_random_damage_raises_nothing_else(kind: str) -> None:
    random = np.random.default_rng(1)
    data = encoded(photo(), kind)
    refused = 0
    for _ in range(60):
        damaged = bytearray(data)
        for place in random.integers(0, min(len(data), 200), 4):
            damaged[place] = random.integers(256)
        try:
            assert open_image(bytes(damaged), max_pixels=10**6).mode == "RGB"
        except ImageError:
            refused += 1
    assert refused
