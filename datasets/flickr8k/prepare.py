"""Turn an unpacked Flickr8k into train.jsonl, dev.jsonl and test.jsonl: ``python datasets/flickr8k/prepare.py FOLDER``.

README.md describes the expected layout. Photos are not copied: a line names its photo relative to FOLDER.
"""

import argparse
import json
import sys
from pathlib import Path

PHOTO_FOLDERS = ("Flicker8k_Dataset", "Flickr8k_Dataset", "Images")  # the first is the archive's own spelling
SPLITS = ("train", "dev", "test")


def prepare(folder: Path) -> dict[str, int]:
    """Write the three files into ``folder`` and return the number of photos of each split.

    Raises ``FileNotFoundError`` for a missing input, and ``ValueError`` for a bad line or a listed photo without a file
    or captions, before it writes anything.
    """
    photos = _find(folder, PHOTO_FOLDERS)
    captions = _read_captions(_find(folder, ("Flickr8k.token.txt",)))
    present = {path.name for path in photos.iterdir()}
    outputs: dict[str, list[str]] = {}
    for split in SPLITS:
        listing = _find(folder, (f"Flickr_8k.{split}Images.txt",))
        names = listing.read_text(encoding="utf-8").split()
        for problem, known in (("no photo", present), ("no caption", captions)):
            if missing := [name for name in names if name not in known]:
                raise ValueError(f"{problem} for {len(missing)} of {len(names)} names in {listing}, first {missing[0]}")
        shown = photos.relative_to(folder).as_posix()
        rows = [{"file_name": f"{shown}/{name}", "captions": captions[name]} for name in names]
        outputs[split] = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    for split, lines in outputs.items():
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
    return {split: len(lines) for split, lines in outputs.items()}


def _find(folder: Path, names: tuple[str, ...]) -> Path:
    """Return the first of ``names`` that exists in ``folder`` or one level below."""
    for name in names:
        for path in (folder / name, *sorted(folder.glob(f"*/{name}"))):
            if path.exists():
                return path
    raise FileNotFoundError(f"no {' or '.join(names)} in {folder} or one folder below; unpack both archives there")


def _read_captions(path: Path) -> dict[str, list[str]]:
    """Return the captions of each photo, in the order of their numbers."""
    numbered: dict[str, dict[int, str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        label, tab, caption = line.partition("\t")
        name, hash_sign, position = label.rpartition("#")
        if not (tab and hash_sign and position.isdecimal() and caption.strip()):
            raise ValueError(f"{path}, line {number}: expected NAME.jpg#0<TAB>caption, found {line[:60]!r}")
        numbered.setdefault(name, {})[int(position)] = caption.strip()
    return {name: [text for _, text in sorted(lines.items())] for name, lines in numbered.items()}


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(description="Turn an unpacked Flickr8k into train, dev and test.jsonl.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of both unpacked archives")
    args = parser.parse_args()
    try:
        counts = prepare(args.folder)
    except (OSError, ValueError) as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 1
    print(f"{args.folder}: " + ", ".join(f"{split} {count}" for split, count in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
