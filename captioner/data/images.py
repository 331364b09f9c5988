"""Reading images from any source as upright 8-bit RGB. Start with ``open_image``."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, TypeVar, Union, cast

from PIL import Image

from captioner.data.arrays import image_of_array, is_array
from captioner.data.bounds import (
    MAX_WHOLE,
    BoundedFile,
    check_pixels,
    free_buffers,
    has_long_texts,
    load,
    without_texts,
)
from captioner.data.items import MAX_BYTES, Item, Refused, open_file, refusal, too_large
from captioner.data.paths import IMAGE_SUFFIXES, Unreadable, find_images
from captioner.data.rgb import to_rgb, upright_size
from captioner.data.urls import is_url, of_url
from captioner.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "ImageSource", "Unreadable", "find_images", "image_size", "open_image"]

T = TypeVar("T")
ImageSource: TypeAlias = Union[str, os.PathLike[str], bytes, BinaryIO, Image.Image, Item, "NDArray[Any]", "Tensor"]

MAX_PIXELS = 200_000_000
"""More pixels than any camera has. Reading takes at most 8 bytes for each, in every format (``bounds.py``)."""

# Formats with a signature, in order of frequency. Pillow supports more, but some accept any file (TGA), start other
# programs (EPS) or are documents.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "HEIF", "JPEG2000", "PPM", "QOI", "ICO")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


def open_image(source: ImageSource, *, min_side: int | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read one image as upright 8-bit RGB, fully decoded and without metadata.

    ``source`` is a path or an http(s) URL, the bytes of a file, a file opened in binary mode (read from its start, left
    open), a PIL image (unchanged, but loaded), an ``Item``, or an array or tensor of one image (``arrays``). The rules:

    - EXIF orientation is applied, in any format that has it. An animation gives its first frame.
    - Transparency (alpha channel, palette or one colour) becomes white.
    - A valid ICC profile is converted to sRGB (wide-gamut phone photos, CMYK); a broken or wrong one is ignored.
    - 16 bits become 8 by division by 257, rounded. Other integers are scaled from their range to 0..255, and so are
      floats, except that floats within 0..1 are scaled from 0..1. NaN and infinities become black.

    ``min_side`` (pixels) allows decoding a JPEG at 1/2, 1/4 or 1/8 if both sides stay at least that long, which is
    several times faster for large photos. It has no effect on other formats and PIL images.

    Raises ``ImageError`` with one sentence that names the source and the reason. Images of more than ``max_pixels``
    (fewer for formats that need much memory) are refused from their header. A damaged or truncated file is refused,
    never partly read.
    """
    with _quiet_pillow(), _named_errors(source):
        content = _content(source)
        if isinstance(content, Image.Image):
            return _decode(content, max_pixels, keep=True)
        with _binary(content) as stream:
            return _despite_texts(stream, lambda stream: _read(stream, min_side, max_pixels))


def image_size(source: ImageSource) -> tuple[int, int]:
    """Return (width, height) of the upright image, from the header if there is one.

    Raises ``ImageError`` as ``open_image`` does, but not for damage after the header.
    """
    with _quiet_pillow(), _named_errors(source):
        content = _content(source)
        if isinstance(content, Image.Image):
            return upright_size(content)
        with _binary(content) as stream:
            return _despite_texts(stream, lambda stream: upright_size(_identify(stream)))


def _despite_texts(stream: BinaryIO, read: Callable[[BinaryIO], T]) -> T:
    """Read an image; retry a PNG without its texts if they are too long for Pillow."""
    try:
        return read(stream)
    except ValueError as error:
        if not has_long_texts(error):
            raise
        return read(without_texts(stream))


def _content(source: ImageSource) -> str | os.PathLike[str] | bytes | BinaryIO | Image.Image:
    """Return what to decode, after downloading or reading an item. Raises ``ImageError``."""
    if isinstance(source, str) and is_url(source):
        source = of_url(source)
    content = source.read() if isinstance(source, Item) else source
    return image_of_array(content) if is_array(content) else cast(Any, content)


@contextlib.contextmanager
def _named_errors(source: ImageSource) -> Iterator[None]:
    """Turn any error into an ``ImageError`` with the name of the source and the reason."""
    try:
        yield
    except ImageError:
        raise
    except Refused as refused:
        raise ImageError(refusal(_name(source), refused)) from None
    except Exception as error:  # Pillow's plugins raise nearly any exception on a damaged file
        raise ImageError(refusal(_name(source), _reason(error))) from error


def _name(source: object) -> str:
    if isinstance(source, Item):
        return source.id
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"an image of {len(source)} bytes"
    name = getattr(source, "filename" if isinstance(source, Image.Image) else "name", None)
    return name if isinstance(name, str) and name else f"an image ({type(source).__name__})"


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, Image.DecompressionBombError):
        return "it has too many pixels"
    if isinstance(error, PermissionError):
        return "permission denied"
    if "truncated" in text.lower() or isinstance(error, (EOFError, struct.error)):
        return "the file is truncated"
    if "could not create decoder" in text:  # of a WebP
        return "the file is truncated or damaged"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return f"the file is damaged or its format is unsupported ({text})"


@contextlib.contextmanager
def _binary(source: object) -> Iterator[BinaryIO]:
    """Yield a seekable binary stream of the source; close it if it was opened here."""
    if isinstance(source, (str, os.PathLike)):
        with open_file(source, most=MAX_BYTES) as file:
            yield file
    elif isinstance(source, (bytes, bytearray, memoryview)):
        yield io.BytesIO(source)
    elif hasattr(source, "read"):
        stream = cast(BinaryIO, source)
        try:
            stream.seek(0)
        except (AttributeError, OSError):  # a socket, a pipe: io.UnsupportedOperation is an OSError
            data = stream.read(MAX_WHOLE + 1)
            if len(data) > MAX_WHOLE:
                raise too_large(len(data)) from None
            if not isinstance(data, bytes):
                raise Refused("it was opened in text mode; open it with mode 'rb'") from None
            stream = io.BytesIO(data)
        yield stream
    else:
        raise Refused("an image must be a path, bytes, a file opened in binary mode, a PIL image or an array")


def _identify(stream: BinaryIO) -> Image.Image:
    """Open the header with the factories of Pillow's plugins.

    ``Image.open`` would apply Pillow's global pixel limit, which is lower than ours, and try unsupported formats.
    """
    Image.init()
    stream.seek(0)
    prefix = stream.read(16)
    if not prefix:
        raise Refused("it is empty")
    if not isinstance(prefix, bytes):
        raise Refused("it was opened in text mode; open it with mode 'rb'")
    recognised = None
    for name in _FORMATS:
        factory, accept = _heif() if name == "HEIF" else Image.OPEN.get(name, (None, None))
        if factory is None or accept is None or not _accepted(accept, prefix):
            continue
        stream.seek(0)
        try:
            return factory(cast(BinaryIO, BoundedFile(stream, name)), "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            recognised = name
    if _is_heif(prefix) and _heif()[0] is None:
        raise Refused("it is a HEIC photo, which needs pillow-heif: pip install 'captioner[heif]'")
    if prefix[4:12] in (b"ftypavif", b"ftypavis") and not recognised:
        raise Refused("it is an AVIF photo, which needs a newer Pillow: pip install -U pillow")
    if recognised:
        raise Refused(f"its {recognised} header is damaged or truncated")
    raise Refused("it is not an image, or its format is not supported")


def _heif() -> tuple[Any, Callable[[bytes], bool] | None]:
    """Return the HEIF plugin, or Nones without the package; it is not registered, which would affect all of Pillow."""
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        return None, None
    return HeifImageFile, _is_heif


def _is_heif(prefix: bytes) -> bool:
    return prefix[4:8] == b"ftyp" and prefix[8:12] in _HEIF_BRANDS


def _accepted(accept: Callable[[bytes], Any], prefix: bytes) -> bool:
    try:
        return accept(prefix) is True
    except (IndexError, struct.error):  # some plugins read past the end of a tiny file
        return False


def _read(stream: BinaryIO, min_side: int | None, max_pixels: int) -> Image.Image:
    image = _identify(stream)
    whole = image.size
    if min_side is not None:
        image.draft(None, (max(1, min_side), max(1, min_side)))
    check_pixels(image, max_pixels, whole=whole)
    return _decode(image, max_pixels, keep=False)


def _decode(image: Image.Image, max_pixels: int, *, keep: bool) -> Image.Image:
    if keep:
        check_pixels(image, max_pixels)
    load(image)
    check_pixels(image, max_pixels)  # again: an ICO may be larger than its header says
    if not keep:
        free_buffers(image)
    return to_rgb(image, keep=keep)


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_filter: Any = None


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings while any thread reads an image.

    ``warnings.catch_warnings`` replaces the process's filters and loses them if threads overlap. So all readers share
    one filter: the first adds it, the last removes it.
    """
    global _quiet_depth, _quiet_filter
    with _quiet_lock:
        _quiet_depth += 1
        if _quiet_depth == 1:
            warnings.filterwarnings("ignore", module=r"PIL\.")
            _quiet_filter = warnings.filters[0]
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                with contextlib.suppress(ValueError):  # another catch_warnings may have removed it
                    cast(list[Any], warnings.filters).remove(_quiet_filter)
