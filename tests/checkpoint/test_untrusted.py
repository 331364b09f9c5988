"""Untrusted checkpoints: no setting opens another file, uses the network, runs code or exhausts the memory."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import huggingface_hub
import pytest
import safetensors
import safetensors.torch

from captioner.checkpoint import Checkpoint, load, save
from captioner.config import (
    CaptionerConfig,
    DecoderConfig,
    GenerationConfig,
    HeadsConfig,
    PreprocessConfig,
    VisionConfig,
    WordRules,
)
from captioner.errors import CaptionerError, CheckpointError
from captioner.models.captioner import Captioner
from captioner.text import train_tokenizer
from captioner.training.recipe import Recipe, load_recipe
from captioner.training.setup import new_captioner
from captioner.training.tasks import Data

Place = tuple[Any, ...]
OPENED = {"open", "os.listdir", "os.scandir"}
FORBIDDEN = {
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "urllib.Request",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "pickle.find_class",
}


class Watch:
    """A list of all files, addresses and processes that this process opens while ``on``.

    Audit hooks cannot be removed.
    """

    def __init__(self) -> None:
        self.on = False
        self.seen: list[tuple[str, str]] = []
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.on and (event in OPENED or event in FORBIDDEN):
            self.seen.append((event, str(args[0]) if args else ""))


@pytest.fixture(scope="module")
def watching() -> Watch:
    return Watch()


class Code:
    """An object that writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def planted(tmp_path: Path) -> list[str]:
    """Return names of a file with code and of network addresses, like an attacker would write them into a setting."""
    folder = tmp_path / "planted"
    folder.mkdir()
    file = folder / "weights.pth"
    file.write_bytes(pickle.dumps(Code(folder / "was here"), protocol=2))
    shutil.copy(file, folder / "model.safetensors")
    return [str(file), f"file://{file}", str(folder), "https://planted.invalid/weights.pth", "hf-hub:planted/model"]


@pytest.fixture
def watch(watching: Watch, planted: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return ``watch(action)``: run it, and check that nothing planted is opened, downloaded or run."""

    def note(path: Any, *args: Any, **options: Any) -> Any:
        watching.seen.append(("open", str(path)))
        return safe_open(path, *args, **options)

    safe_open = safetensors.safe_open  # opens files past Python
    monkeypatch.setattr(safetensors, "safe_open", note)
    monkeypatch.setattr(safetensors.torch, "safe_open", note)
    fetch = Mock(side_effect=OSError("offline"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)

    def run(action: Callable[[], Any]) -> None:
        watching.seen.clear()
        watching.on = True
        said = ""
        try:
            action()
        except CaptionerError as error:
            said = str(error)
        finally:
            watching.on = False
        assert "\n" not in said
        found = [(event, what) for event, what in watching.seen if event in FORBIDDEN or "planted" in what]
        assert not found
        assert not Path(planted[2], "was here").exists()
        assert not [call for call in fetch.call_args_list if "planted" in str(call) and "/model" not in str(call)]

    yield run
    watching.on = False


def leaves(values: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield every value in tables and lists, with the keys that lead to it."""
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else None
    if inner is None:
        yield place, values
    else:
        for key, value in inner:
            yield from leaves(value, (*place, key))


def changed(values: Any, place: Place, value: Any) -> Any:
    found = copy.deepcopy(values)
    inner = found
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a checkpoint with every possible table. Do not modify it."""
    tokenizer = train_tokenizer(["a dog on a beach", "two dogs"], 262)
    config = CaptionerConfig(
        vision=VisionConfig(backbone="test_efficientnet", backbone_args={"output_stride": 16}),
        decoder=DecoderConfig(vocab_size=tokenizer.vocab_size, width=16, layers=1, heads=2, mlp_width=32),
        text=tokenizer.config,
        preprocess=PreprocessConfig(size=32),
        heads=HeadsConfig(width=8, pooling="mean", tags=("dog",)),
    )
    generation = GenerationConfig(rules=WordRules(prefix="a", forbid=("cat",), bias={"dog": 0.5}))
    training = {
        "recipe": {"vision_weights": "timm", "stages": [{"task": "x"}]},
        "data": "0",
        "held_out": {"bleu4": 1.0},
    }
    checkpoint = Checkpoint(Captioner(config).eval(), tokenizer, generation, training)
    return save(checkpoint, tmp_path_factory.mktemp("made") / "made")


@pytest.fixture
def saved(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "saved")


def test_no_setting_of_a_checkpoint_names_a_file(saved: Path, planted: list[str], watch: Callable[..., None]) -> None:
    for name in ("config.json", "generation.json", "training.json"):
        text = (saved / name).read_text(encoding="utf-8")
        values = json.loads(text)
        for place, _ in leaves(values):
            for value in planted:
                (saved / name).write_text(json.dumps(changed(values, place, value)))
                watch(lambda: load(saved))
        (saved / name).write_text(text)
    watch(lambda: load(saved))


def tables(values: Any, place: Place = ()) -> Iterator[Place]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield (*place, key)
            yield from tables(value, (*place, key))


@pytest.mark.parametrize("name", ["config.json", "generation.json", "training.json"])
def test_no_odd_value_is_a_traceback(name: str, saved: Path) -> None:
    values = json.loads((saved / name).read_text(encoding="utf-8"))
    said: list[str] = []
    for place in tables(values):
        for value in (None, True, -1, 0, 2.5, 10**30, "", [], {}, [None], {"a": None}):
            (saved / name).write_text(json.dumps(changed(values, place, value)))
            try:
                load(saved)
            except CheckpointError as error:
                said.append(str(error))
    assert not [text for text in said if "\n" in text]
    assert len(said) > 50 or name == "training.json"


@pytest.mark.parametrize(
    "name",
    [
        "checkpoint_path",
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "cache_dir",
        "act_layer",
        "url",
        "file",
    ],
)
def test_no_argument_of_a_backbone_names_a_file(
    name: str, saved: Path, planted: list[str], watch: Callable[..., None]
) -> None:
    values = json.loads((saved / "config.json").read_text(encoding="utf-8"))
    for value in (*planted, True, {"file": planted[0]}, {"url": planted[3]}, [planted[0]]):
        values["vision"]["backbone_args"] = {name: value}
        (saved / "config.json").write_text(json.dumps(values))
        watch(lambda: load(saved))
        with pytest.raises(CheckpointError, match="backbone_args does not allow"):
            load(saved)


def test_no_setting_of_an_adapter_names_a_file(
    saved: Path, planted: list[str], watch: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The adapter comes from the hub, so its base must be named as a captioner of the hub."""
    values = {
        **json.loads((saved / "config.json").read_text(encoding="utf-8")),
        "adapter": {"method": "lora", "rank": 2, "alpha": 2, "targets": ["q_proj"], "length": 1},
        "base": {"source": "shipped", "fingerprint": "0" * 64},
    }
    monkeypatch.setattr("captioner.checkpoint.loading.find", lambda source: saved)
    monkeypatch.setattr("captioner.checkpoint.locate.SHIPPED", saved)
    for table in ("adapter", "base"):
        for place, _ in leaves(values[table], (table,)):
            for value in planted:
                (saved / "config.json").write_text(json.dumps(changed(values, place, value)))
                watch(lambda: load("org/adapter"))


def test_no_setting_of_a_recipe_runs_code_or_is_fetched_by_address(
    planted: list[str], watch: Callable[..., None], recipe: Callable[..., Recipe], data: Data, tmp_path: Path
) -> None:
    """A recipe may name local files of weights, which are read as plain tensors."""
    addresses = [value for value in planted if "://" in value]
    for name in ("vision_weights", "decoder_weights"):
        for value in addresses:
            watch(lambda name=name, value=value: new_captioner(recipe(**{name: value}), data))
        with pytest.raises(CaptionerError):
            new_captioner(recipe(**{name: planted[0]}), data)
    for value in addresses:
        watch(lambda value=value: new_captioner(recipe(tokenizer={"source": value}), data))
        watch(lambda value=value: new_captioner(recipe(vision={"backbone": value}), data))
        watch(lambda value=value: new_captioner(recipe(vision={"backbone_args": {"checkpoint_path": value}}), data))
    assert not Path(planted[2], "was here").exists()


@pytest.mark.parametrize(
    "content",
    ["stages = 3", "sizes = 3", "stages = [1]", "a = " + "[" * 5000, "a = 1e999999\nb = 0x" + "f" * 9999, "\0"],
)
def test_an_odd_recipe_is_one_sentence(content: str, tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text(content)
    with pytest.raises(CaptionerError) as caught:
        load_recipe(str(tmp_path / "odd.toml"))
    assert "\n" not in str(caught.value)


HUGE = 10**12
SIZES: list[tuple[Place, Any]] = [
    (("decoder", "vocab_size"), HUGE),
    (("decoder", "vocab_size"), 10**7),
    (("decoder", "context"), HUGE),
    (("decoder", "context"), 10**7),
    (("decoder", "layers"), 10**9),
    (("decoder", "layers"), 10**5),
    (("decoder", "width"), 16 * 10**5),
    (("decoder", "mlp_width"), 10**9),
    (("decoder", "prefix"), 10**9),
    (("decoder", "local_words"), 10**20),
    (("decoder", "norm_eps"), float("nan")),
    (("decoder", "norm_eps"), float("inf")),
    (("heads", "width"), 10**9),
    (("heads", "tags"), ["dog", "cat"]),
    (("preprocess", "size"), 10**9),
    (("preprocess", "std"), [1, 1, 10**400]),
    (("text", "bos_id"), 10**6),
    (("text", "bos_id"), -1),
    (("text", "eos_id"), 10**6),
    (("text", "pad_id"), -5),
    (("text", "gap_id"), 10**30),
    (("vision", "backbone"), "vit_large_patch16_224"),
    (("vision", "backbone_args"), {"output_stride": 0}),
    (("vision", "backbone_args"), {"embed_dim": 16}),
    (("vision", "backbone_args"), {"output_stride": "x" * 10**5}),
    (("vision", "backbone_args"), {"stem_size": 16000}),
    (("vision", "backbone"), "crossvit_tiny_240"),
]


@pytest.mark.parametrize(
    ("place", "value"), SIZES, ids=[f"{'.'.join(place)}-{n}" for n, (place, _) in enumerate(SIZES)]
)
def test_odd_sizes_are_refused_before_anything_is_built(
    place: Place, value: Any, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captioner.models.captioner.Captioner", Mock(side_effect=AssertionError("it was built")))
    values = json.loads((saved / "config.json").read_text(encoding="utf-8"))
    (saved / "config.json").write_text(json.dumps(changed(values, place, value)))
    with pytest.raises(CheckpointError) as caught:
        load(saved)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("name", "value"), [("beams", 10**9), ("candidates", HUGE), ("refine", 10**9), ("beams", 10**400)]
)
def test_odd_searches_are_refused(name: str, value: int, saved: Path) -> None:
    values = json.loads((saved / "generation.json").read_text(encoding="utf-8"))
    (saved / "generation.json").write_text(json.dumps({**values, name: value}))
    with pytest.raises(CheckpointError, match=name):
        load(saved)


def test_a_short_tokenizer_is_refused_and_a_padded_vocabulary_is_not(saved: Path) -> None:
    values = json.loads((saved / "tokenizer.json").read_text(encoding="utf-8"))
    vocab = values["model"]["vocab"]
    last = max(vocab, key=vocab.get)

    def without(count: int) -> None:
        kept = {text: token for text, token in vocab.items() if token < len(vocab) - count}
        merges = [pair for pair in values["model"]["merges"] if "".join(pair) in kept and set(pair) <= kept.keys()]
        model = {**values["model"], "vocab": kept, "merges": merges}
        (saved / "tokenizer.json").write_text(json.dumps({**values, "model": model}), encoding="utf-8")

    whole = load(saved).tokenizer
    without(3)
    padded = load(saved).tokenizer
    assert (padded.vocab_size, len(padded.pieces)) == (whole.vocab_size, whole.vocab_size)
    assert (padded.pieces[-1], whole.pieces[-1] != b"") == (b"", bool(last))
    for count in (len(vocab) // 2, len(vocab)):
        without(count)
        with pytest.raises(
            CheckpointError, match=r"tokenizer( has \d+ tokens and the model|\.json is not a Hugging Face)"
        ):
            load(saved)
    vocab[last] = 10**6
    (saved / "tokenizer.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(CheckpointError, match="tokenizer has 1000001 tokens"):
        load(saved)


@pytest.mark.parametrize(
    "training",
    [{"held_out": [1]}, {"held_out": {"cider_d": "x", "bleu4": None}}, {"position": 3}, {"images": {"a": []}}],
)
def test_an_odd_past_is_carried_along(training: dict[str, Any], saved: Path, tmp_path: Path) -> None:
    (saved / "training.json").write_text(json.dumps(training))
    (saved / "README.md").unlink()
    assert load(save(load(saved), tmp_path / "again")).training == training
