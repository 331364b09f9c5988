"""Commands of all pages: each one parses, scripts know their options, and commands that only read or caption run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import captioner
from captioner.checkpoint.files import SHIPPED
from captioner.cli import VERBS, _parser, main
from captioner.data.sources import load_split

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "datasets").rglob("*.md")])
PHOTOS = sorted((ROOT / "datasets" / "photos").glob("*.jpg"))
READING = {"caption", "compare", "evaluate", "explain", "inspect", "search"}
# A hub, a GPU, a cluster, and what docs/finetune.md and the pages of exports make, which have tests of their own.
ELSEWHERE = re.compile(r"Salesforce|captioner-onnx|me/my|vit-gpt2|cuda|--ray|coco/|captions\.csv")


def lines() -> list[str]:
    """Return the lines of all shell blocks, fenced or indented, without comments."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        fences = [block for language, block in blocks if language in ("", "bash")]
        indented = re.findall(r"^    (captioner .*|python .*)$", text, re.MULTILINE)
        found += [
            re.sub(r"\s+#\s.*", "", line) for block in (*fences, "\n".join(indented)) for line in block.splitlines()
        ]
    return list(dict.fromkeys(found))


def calls() -> list[list[str]]:
    """Return the arguments of every call of captioner, with the command that ``captioner photo.jpg`` leaves out."""
    found = []
    for line in lines():
        call = re.search(r"(?:^|\| |&& |[A-Z_]+=\S+ |-m )captioner (?=[\w'./-])(.*)", line)
        if call and not line.startswith("docker"):
            typed = re.sub(r"\$\(\(.*?\)\)", "3", call[1])  # the number of a job
            arguments = shlex.split(re.split(r" > | \| | 2> ", typed)[0])
            found.append(arguments if arguments[0] in VERBS else ["caption", *arguments])
    return found


CALLS = calls()
SCRIPTS = [shlex.split(line) for line in lines() if re.match(r"python (scripts|datasets|tests)/", line)]
RUN = [call for call in CALLS if call[0] in READING and not ELSEWHERE.search(" ".join(call))]


@pytest.mark.parametrize("arguments", CALLS, ids=" ".join)
def test_commands_parse(arguments: list[str]) -> None:
    assert _parser().parse_args(arguments).verb


@pytest.mark.parametrize("words", SCRIPTS, ids=" ".join)
def test_scripts_know_their_options(words: list[str]) -> None:
    source = (ROOT / words[1]).read_text(encoding="utf-8")
    assert not [word for word in words[2:] if word.startswith("--") and f'"{word}"' not in source]


def test_there_are_commands() -> None:
    assert {call[0] for call in RUN} == READING
    assert len(RUN) > 40
    assert len(SCRIPTS) >= 10


def python(page: Path) -> str:
    """Return the Python blocks of a page as one program."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("page", [page for page in PAGES if python(page)], ids=lambda page: page.name)
def test_python_compiles(page: Path) -> None:
    compile(python(page), page.name, "exec")


def film(path: Path) -> None:
    """Write a video of two sample photos, half a second each."""
    import av
    from PIL import Image

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 96
        for photo in PHOTOS[:2]:
            picture = Image.open(photo).convert("RGB").resize((96, 96))
            for _ in range(12):
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())


def folder(path: Path, captions: list[str], count: int = 3) -> None:
    """Make a folder of sample photos with caption files; without captions, of photos alone."""
    path.mkdir(parents=True, exist_ok=True)
    for photo in PHOTOS[: count if not captions else 12]:
        shutil.copy(photo, path / photo.name)
        if captions:
            (path / photo.name).with_suffix(".txt").write_text("\n".join(captions), encoding="utf-8")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, toy: Path, taught: Path) -> Path:
    """Make the folders and files that the pages name."""
    top = tmp_path_factory.mktemp("docs")
    place = top / "here"
    folder(place / "photos", [])
    folder(place / "my-photos", ["a photo of a thing", "something in a photo"])
    folder(place / "MORE", ["a photo of a thing"])
    folder(place / "chinese-photos", ["一张照片", "照片里的东西"])
    (place / "more").mkdir()
    shutil.copy(ROOT / "datasets" / "photos" / "cow.jpg", place / "photo.jpg")
    for name in ("DATA", "FOLDER", "datasets/toy/data", "../shared/flickr8k"):
        shutil.copytree(toy, place / name)
        for split in (place / name).glob("*.jsonl"):  # a few photos: these tests take minutes in all
            split.write_text("".join(split.read_text(encoding="utf-8").splitlines(keepends=True)[:8]), encoding="utf-8")
    (place / "datasets" / "photos").symlink_to(ROOT / "datasets" / "photos")
    for name in ("finetune", "mine", "old", "new", "toy"):
        (place / "runs").mkdir(exist_ok=True)
        (place / "runs" / name).symlink_to(SHIPPED)
    (place / "runs" / "multitask").symlink_to(taught)
    (place / "words.txt").write_text("# a list\nhouse\n")
    with zipfile.ZipFile(place / "trip.zip", "w") as archive:
        archive.write(PHOTOS[0], "in/1.jpg")
    from PIL import Image

    Image.open(PHOTOS[1]).resize((64, 64)).save(place / "more" / "1.png")
    for name, photo in zip(("dog", "a", "b"), PHOTOS, strict=False):
        shutil.copy(photo, place / f"{name}.jpg")
    (place / "shards").mkdir()
    import tarfile

    with tarfile.open(place / "shards" / "a.tar", "w") as tar:
        tar.add(PHOTOS[2], "1.jpg")
    if find_spec("av"):
        film(place / "clip.mp4")
    return place


@pytest.mark.slow
@pytest.mark.parametrize("arguments", RUN, ids=" ".join)
def test_commands_run(arguments: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "clip.mp4" in arguments:
        pytest.importorskip("av")
    if any("xmp" in word for word in arguments):
        pytest.importorskip("exiv2")
    monkeypatch.chdir(here)
    monkeypatch.setattr("captioner.data.urls.fetch", lambda *args, **more: PHOTOS[3].read_bytes())
    if arguments[1:2] == ["-"]:
        monkeypatch.setattr("sys.stdin", (here / "list.txt").open("w+"))
        (here / "list.txt").write_text("photos/" + PHOTOS[0].name + "\n")
    if "--predictions" in arguments:
        names = [sample.name for sample in load_split(arguments[arguments.index("--data") + 1], "dev")]
        Path("captions.json").write_text(json.dumps([{"image_id": name, "caption": "a photo"} for name in names]))
    if arguments[0] in ("compare", "evaluate") and "--no-java" not in arguments:
        arguments = [*arguments, "--no-java"]  # METEOR has tests of its own
    assert main(arguments) in ({0, 1} if arguments[0] == "inspect" else {0})


@pytest.mark.slow
@pytest.mark.parametrize("page", ["explain.md", "folders.md", "heads.md", "labels.md"])
def test_python_runs(page: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    exec(compile(python(ROOT / "docs" / page), page, "exec"), {"captioner": captioner, "pipe": captioner.load()})
