"""Kinds of files and folders, recognised by their names."""

from __future__ import annotations

import os


def _suffixes(names: str) -> tuple[str, ...]:
    return tuple(f".{name}" for name in names.split())


IMAGE_SUFFIXES = frozenset(
    _suffixes("jpg jpeg jpe jfif mpo png webp gif bmp dib tif tiff avif heic heif hif jp2 j2k ppm pgm pbm pnm qoi")
)
"""Suffixes of images inside a folder. HEIC is included even without its plugin, rather than skipped silently."""
UNREAD_SUFFIXES = frozenset(
    _suffixes(
        "dng nef nrw cr2 cr3 crw arw srf sr2 orf rw2 raf pef raw rwl srw x3f 3fr fff iiq erf kdc dcr mef mos mrw "
        "psd psb xcf kra ai eps svg jxl jxr wdp exr hdr tga dds pcx ico insp"
    )
)
"""Suffixes of unsupported images: camera RAW, files of editors, and rare formats."""
ARCHIVE_SUFFIXES = (".zip", ".cbz", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
VIDEO_SUFFIXES = _suffixes("mp4 m4v mov mkv webm avi mpg mpeg mts m2ts 3gp wmv flv ogv")
_BINS = frozenset(
    (
        "@eadir",  # thumbnails, Synology
        ".@__thumb",  # thumbnails, QNAP
        ".thumbnails",
        "#recycle",
        "@recycle",
        "$recycle.bin",
        "recycler",
        ".trash",
        ".trashes",
        "#snapshot",
        "@snapshot",
        ".snapshot",
        "__macosx",
        "system volume information",
        "lost+found",
    )
)
"""Names of folders of thumbnails, deleted files and snapshots, in lower case."""


def is_image_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def is_unread_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in UNREAD_SUFFIXES


def is_archive_name(name: str) -> bool:
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def is_video_name(name: str) -> bool:
    return name.lower().endswith(VIDEO_SUFFIXES)


def is_bin_name(name: str) -> bool:
    """Return whether a folder of that name holds thumbnails, deleted files or snapshots."""
    return name.casefold() in _BINS or name.lower().startswith(".trash-")


def is_hidden(name: str) -> bool:
    return name.startswith(".")
