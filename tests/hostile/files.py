"""Rows of files: truncated, of odd sizes and kinds, with invalid metadata, with contradictory parts."""

from __future__ import annotations

import os
import struct
import zlib

from case import CAPTION, DAMAGED, LARGE, NOT_AN_IMAGE, TRUNCATED, WEBP, Case, file
from images import chunk, encoded, exif, heic, noise, photo, png, profile, sections
from PIL import Image


def cut() -> list[Case]:
    """Return JPEG, PNG and WebP files that end in the middle of each of their sections."""
    grey = noise(64, 48)
    colours = Image.merge("RGB", (grey, grey.rotate(180), grey.rotate(90)))
    whole = {
        "photo.jpg": encoded(colours, "JPEG", exif=exif(), icc_profile=profile()),
        "progressive.jpg": encoded(colours, "JPEG", progressive=True),
        "photo.png": encoded(colours.quantize(16), "PNG", exif=exif(), icc_profile=profile(), transparency=3),
        "photo.webp": encoded(colours, "WEBP", exif=exif(), icc_profile=profile()),
        "lossless.webp": encoded(colours, "WEBP", lossless=True),
    }
    outcomes = {"SOI": NOT_AN_IMAGE, "signature": NOT_AN_IMAGE, "RIFF": NOT_AN_IMAGE, "IEND": CAPTION}
    found = []
    for name, data in whole.items():
        for section, start, end in sections(data):
            outcome = outcomes.get(section, WEBP if name.endswith("webp") else TRUNCATED)
            found.append(file(f"cut/{section}/{name}", section, outcome, data[: (start + end) // 2]))
    return found


def sizes() -> list[Case]:
    def of(width: int, height: int, kind: str = "PNG") -> bytes:
        return encoded(photo(width, height), kind)

    return [
        file("sizes/empty.jpg", "0 bytes", "it is empty", b""),
        file("sizes/byte.jpg", "one byte", NOT_AN_IMAGE, b"\xff"),
        file("sizes/1x1.png", "1 x 1", CAPTION, of(1, 1)),
        file("sizes/1x1.gif", "1 x 1", CAPTION, of(1, 1, "GIF")),
        file("sizes/1x10000.png", "1 x 10,000", CAPTION, of(1, 10_000)),
        file("sizes/10000x1.jpg", "10,000 x 1", CAPTION, of(10_000, 1, "JPEG")),
        file(
            "sizes/12000x12000.png",
            "144 megapixels of one colour in 150 kB",
            CAPTION,
            encoded(Image.new("1", (12_000, 12_000)), "PNG"),
        ),
        file(
            "sizes/30000x30000.png",
            "a header of 30,000 x 30,000",
            LARGE,
            png(30_000, 30_000, chunk(b"IDAT", zlib.compress(b""))),
        ),
        file(
            "sizes/30000x30000.bmp",
            "a header of 30,000 x 30,000",
            LARGE,
            b"BM" + struct.pack("<IHHIIiiHHIIiiII", 1000, 0, 0, 54, 40, 30_000, 30_000, 1, 24, 0, 0, 0, 0, 0, 0),
        ),
        file(
            "sizes/0x0.png",
            "a header of 0 x 0",
            "its PNG header is damaged or truncated",
            png(0, 0, chunk(b"IDAT", zlib.compress(b""))),
        ),
        file(
            "sizes/65535x65535.gif",
            "a header of 65,535 x 65,535",
            "its 65535 x 65535 pixels exceed the limit of 200 megapixels",
            b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;",
        ),
        file(
            "sizes/bomb.png",
            "10,000 x 10,000, of which 40 MB are there, in 40 kB",
            TRUNCATED,
            png(10_000, 10_000, chunk(b"IDAT", zlib.compress(bytes(40 << 20), 9))),
        ),
        Case(
            name="sizes/sparse.jpg",
            what="10 GB of zeros, no image",
            outcome="its 10,737 MB exceed the limit for an image",
            make=lambda path: (path.touch(), os.truncate(path, 10 << 30)),
        ),
    ]


def kinds() -> list[Case]:
    image = photo()
    grey = image.convert("L")
    alpha = image.convert("RGBA")
    alpha.putalpha(grey)
    frames: dict[str, object] = {"save_all": True, "append_images": [image.rotate(90), image.rotate(180)]}
    return [
        file("kinds/cmyk.jpg", "CMYK JPEG", CAPTION, encoded(image.convert("CMYK"), "JPEG")),
        file("kinds/grey.jpg", "grey JPEG", CAPTION, encoded(grey, "JPEG")),
        file("kinds/progressive.jpg", "progressive JPEG", CAPTION, encoded(image, "JPEG", progressive=True)),
        file("kinds/many.mpo", "two photos in one MPO", CAPTION, encoded(image, "MPO", **frames)),
        file("kinds/16-bit.png", "16 bits, grey", CAPTION, encoded(grey.convert("I;16"), "PNG")),
        file(
            "kinds/16-bit-rgb.png",
            "16 bits, RGB",
            CAPTION,
            png(2, 2, chunk(b"IDAT", zlib.compress((b"\0" + bytes(range(12))) * 2)), depth=16),
        ),
        file("kinds/1-bit.png", "1 bit", CAPTION, encoded(grey.convert("1"), "PNG")),
        file(
            "kinds/palette.png", "palette with transparency", CAPTION, encoded(image.quantize(8), "PNG", transparency=1)
        ),
        file(
            "kinds/palette-alpha.png",
            "palette, each colour with an alpha of its own",
            CAPTION,
            encoded(image.quantize(8), "PNG", transparency=bytes(range(0, 256, 32))),
        ),
        file("kinds/alpha.png", "alpha channel", CAPTION, encoded(alpha, "PNG")),
        file("kinds/invisible.png", "wholly transparent", CAPTION, encoded(Image.new("RGBA", (9, 9)), "PNG")),
        file("kinds/grey-alpha.png", "grey with alpha", CAPTION, encoded(alpha.convert("LA"), "PNG")),
        file("kinds/animated.png", "animated PNG", CAPTION, encoded(image, "PNG", **frames)),
        file("kinds/animated.gif", "animated GIF", CAPTION, encoded(image, "GIF", **frames)),
        file("kinds/animated.webp", "animated WebP", CAPTION, encoded(image, "WEBP", **frames)),
        file("kinds/lossless.webp", "lossless WebP with alpha", CAPTION, encoded(alpha, "WEBP", lossless=True)),
        file("kinds/photo.avif", "AVIF", CAPTION, encoded(image, "AVIF")),
        file("kinds/photo.heic", "HEIC, with pillow-heif", CAPTION, heic(image)),
        file("kinds/photo.bmp", "BMP", CAPTION, encoded(image, "BMP")),
        file("kinds/photo.jp2", "JPEG 2000", CAPTION, encoded(image, "JPEG2000")),
        file("kinds/photo.ppm", "PPM", CAPTION, encoded(image, "PPM")),
        file("kinds/lzw.tif", "TIFF, LZW", CAPTION, encoded(image, "TIFF", compression="tiff_lzw")),
        file("kinds/group4.tif", "TIFF, a fax", CAPTION, encoded(grey.convert("1"), "TIFF", compression="group4")),
        file("kinds/float.tif", "TIFF of floats", CAPTION, encoded(grey.convert("F"), "TIFF")),
        file(
            "kinds/nan.tif",
            "TIFF of floats, all of them NaN",
            CAPTION,
            encoded(Image.new("F", (8, 8), float("nan")), "TIFF"),
        ),
        file("kinds/32-bit.tif", "TIFF of 32-bit integers", CAPTION, encoded(grey.convert("I"), "TIFF")),
        file("kinds/lab.tif", "TIFF in Lab", CAPTION, encoded(Image.new("LAB", (8, 8), (128, 10, 20)), "TIFF")),
        file(
            "kinds/pages.tif",
            "TIFF of three pages",
            CAPTION,
            encoded(photo(), "TIFF", save_all=True, append_images=[photo(), photo()]),
        ),
        file("kinds/jpeg.png", "a JPEG called .png", CAPTION, encoded(image, "JPEG")),
        file("kinds/PNG.JPG", "a PNG called .JPG", CAPTION, encoded(image, "PNG")),
        file("kinds/text.jpg", "text called .jpg", NOT_AN_IMAGE, b"The photo cannot be shown.\n" * 9),
        file("kinds/page.jpg", "a web page called .jpg", NOT_AN_IMAGE, b"<!DOCTYPE html><title>404</title>"),
        file("kinds/photo.svg.png", "SVG called .png", NOT_AN_IMAGE, b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        file("kinds/paper.jpg", "PDF called .jpg", NOT_AN_IMAGE, b"%PDF-1.4\n%%EOF"),
        file("kinds/program.jpg", "a program called .jpg", NOT_AN_IMAGE, b"\x7fELF" + bytes(99)),
        file("kinds/packed.jpg", "a zip called .jpg", NOT_AN_IMAGE, b"PK\3\4" + bytes(99)),
        file(
            "kinds/script.png",
            "PostScript called .png, which Pillow would hand to Ghostscript",
            NOT_AN_IMAGE,
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        ),
        file("kinds/zeros.webp", "zeros", NOT_AN_IMAGE, bytes(1000)),
        file(
            "kinds/noise.jpg",
            "random bytes behind a JPEG signature",
            "its JPEG header is damaged or truncated",
            b"\xff\xd8\xff" + bytes(range(256)) * 4,
        ),
    ]


def metadata() -> list[Case]:
    image = photo()
    turned = [
        file(f"metadata/turned-{n}.jpg", f"orientation {n}", CAPTION, encoded(image, "JPEG", exif=exif(n)))
        for n in range(1, 9)
    ]
    whole = encoded(image, "JPEG")
    thirds = [whole[:2] + b"\xff\xe1" + struct.pack(">H", 9) + b"Exif\0\0M" + whole[2:]]
    return [
        *turned,
        file("metadata/turned.png", "orientation 6 in a PNG", CAPTION, encoded(image, "PNG", exif=exif(6))),
        file("metadata/turned.webp", "orientation 6 in a WebP", CAPTION, encoded(image, "WEBP", exif=exif(6))),
        file("metadata/turned.heic", "orientation 6 in a HEIC", CAPTION, heic(image, exif=exif(6))),
        file("metadata/orientation-99.jpg", "orientation 99", CAPTION, encoded(image, "JPEG", exif=exif(99))),
        file(
            "metadata/exif-garbage.jpg",
            "EXIF of garbage",
            CAPTION,
            encoded(image, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xffgarbage"),
        ),
        file("metadata/exif-cut.jpg", "EXIF that ends after a byte", CAPTION, thirds[0]),
        file(
            "metadata/exif-circle.jpg",
            "EXIF whose directories lead to each other in a circle",
            CAPTION,
            encoded(image, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x87\x69\0\4\0\0\0\1\0\0\0\x08\0\0\0\x08"),
        ),
        file(
            "metadata/icc-garbage.jpg",
            "ICC profile of garbage",
            CAPTION,
            encoded(image, "JPEG", icc_profile=b"garbage" * 9),
        ),
        file(
            "metadata/icc-unfit.jpg",
            "ICC profile of Lab in an RGB photo",
            CAPTION,
            encoded(image, "JPEG", icc_profile=profile("LAB")),
        ),
        file(
            "metadata/icc-unfit.png",
            "ICC profile of Lab in a grey picture",
            CAPTION,
            encoded(image.convert("L"), "PNG", icc_profile=profile("LAB")),
        ),
        file("metadata/icc-xyz.jpg", "ICC profile of XYZ", CAPTION, encoded(image, "JPEG", icc_profile=profile("XYZ"))),
        file(
            "metadata/icc-many.jpg",
            "ICC profile in 3 segments",
            CAPTION,
            encoded(image, "JPEG", icc_profile=profile() + bytes(140_000)),
        ),
        file(
            "metadata/text-bomb.png",
            "a text chunk that unpacks to 100 MB",
            CAPTION,
            png(
                8,
                8,
                chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100 << 20), 9)),
                chunk(b"IDAT", zlib.compress((b"\0" + bytes(24)) * 8)),
            ),
        ),
        file(
            "metadata/icc-bomb.png",
            "an ICC profile that unpacks to 100 MB",
            CAPTION,
            png(
                8,
                8,
                chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100 << 20), 9)),
                chunk(b"IDAT", zlib.compress((b"\0" + bytes(24)) * 8)),
            ),
        ),
        file(
            "metadata/comments.jpg",
            "2,000 comments",
            CAPTION,
            whole[:2] + (b"\xff\xfe\x00\x10" + b"a" * 14) * 2000 + whole[2:],
        ),
    ]


def lies() -> list[Case]:
    """Return files with contradictory parts."""
    data = encoded(photo(), "PNG")
    broken = bytearray(data)
    broken[broken.index(b"IDAT") + 8] ^= 0xFF
    few = png(64, 64, chunk(b"IDAT", zlib.compress((b"\0" + bytes(192)) * 9)))
    jpeg = encoded(photo(), "JPEG")
    flipped = bytearray(encoded(noise(256, 256), "JPEG"))
    for place in range(len(flipped) - 3000, len(flipped) - 100, 97):
        flipped[place] ^= 0x55
    tiff = encoded(photo(), "TIFF")
    directory = int.from_bytes(tiff[4:8], "little")
    end = directory + 2 + 12 * int.from_bytes(tiff[directory : directory + 2], "little")
    circle = tiff[:end] + struct.pack("<I", directory) + tiff[end + 4 :]
    bare = struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, 1 << 30, -1, 1, 24, 0, 0, 0, 0, 0, 0)
    return [
        file("lies/crc.png", "PNG with a wrong checksum", DAMAGED, bytes(broken)),
        file("lies/rows.png", "PNG that ends properly after 9 of its 64 rows; the others are black", CAPTION, few),
        file("lies/no-pixels.png", "PNG without pixels", DAMAGED, png(9, 9)),
        file(
            "lies/two-headers.png",
            "PNG whose second header is larger",
            TRUNCATED,
            png(
                8,
                8,
                chunk(b"IHDR", struct.pack(">IIBBBBB", 90, 90, 8, 2, 0, 0, 0)),
                chunk(b"IDAT", zlib.compress((b"\0" + bytes(24)) * 8)),
            ),
        ),
        file(
            "lies/long-chunk.png",
            "PNG with a chunk of 268 MB",
            DAMAGED,
            data[:33] + b"\x0f\xff\xff\xffIDAT" + bytes(40),
        ),
        file("lies/bits.jpg", "JPEG with flipped bits, which show in the picture", CAPTION, bytes(flipped)),
        file("lies/tail.jpg", "JPEG with a megabyte behind its end", CAPTION, jpeg + bytes(1 << 20)),
        file("lies/head.jpg", "JPEG behind 10 bytes of rubbish", NOT_AN_IMAGE, b"rubbish...." + jpeg),
        file(
            "lies/minus.bmp",
            "BMP of a negative height and a thousand million columns",
            "its 1073741824 x 1 pixels exceed the limit of 200 megapixels",
            b"BM" + bare,
        ),
        file("lies/circle.tif", "TIFF whose directories lead in a circle", CAPTION, circle),
        file(
            "lies/offset.tif",
            "TIFF whose directory lies behind its end",
            "its TIFF header is damaged or truncated",
            b"II*\0\xff\xff\xff\x7f",
        ),
        file(
            "lies/no-end.gif", "GIF of a header", "its GIF header is damaged or truncated", b"GIF89a\x08\0\x08\0\0\0\0"
        ),
        file("lies/photo.webp", "WebP that says 4 GB", WEBP, b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(40)),
        file(
            "lies/photo.avif",
            "AVIF of a header",
            "its AVIF header is damaged or truncated",
            b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + bytes(40),
        ),
        file(
            "lies/photo.heic",
            "HEIC of a header",
            "its HEIF header is damaged or truncated",
            b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(40),
        ),
    ]
