"""The state of a run: its position, and the file that resumes an interrupted run bit for bit."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from captioner.checkpoint.files import require_regular
from captioner.config import to_dict
from captioner.data.samples import Samples
from captioner.errors import CheckpointError, TrainingError, reason_of
from captioner.evaluation.evaluate import fingerprint
from captioner.system.disk import put_in_place
from captioner.text import CaptionTokenizer
from captioner.training.recipe import Recipe
from captioner.training.tasks import Data

STATE = "state.pt"
_FREE = ("workers",)  # settings of a recipe that a resumed run may change


@dataclass
class Position:
    """The position of a run."""

    stage: int = 0
    epoch: int = 0
    step: int = 0  # optimizer steps in the epoch
    total_step: int = 0  # optimizer steps in the run
    best_score: float = float("-inf")
    since_best: int = 0  # validations without a better score
    over: str = ""  # the reason why the stage ends before its last epoch


def write_state(state: Mapping[str, Any], directory: Path) -> None:
    """Save ``state``; the older one survives a failure. Raises ``CheckpointError``."""
    partial = directory / "state.partial"
    try:
        torch.save(state, partial)
        put_in_place(partial, directory / STATE)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"cannot save the state of the run in {directory}: {error}; free some space and repeat the command with "
            "--resume (the previous state is unchanged)"
        ) from error
    finally:  # after a second Ctrl-C too; a finished file has its own name by now
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def read_state(directory: Path) -> dict[str, Any]:
    """Return the state that ``write_state`` saved, on the CPU. Raises ``TrainingError``."""
    path = directory / STATE
    try:
        require_regular(path)
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return {**state, "position": Position(**state["position"])}
    except FileNotFoundError:
        raise TrainingError(f"there is no run to resume in {directory}; start it without --resume") from None
    except Exception as error:  # a damaged zip, a pickle with code, the state of another program
        raise TrainingError(f"{path} is damaged ({reason_of(error)}); start again with another --out") from error


def run_identity(recipe: Recipe, data: str, *, base: str = "") -> dict[str, Any]:
    """Return the values that a resumed run must match: all settings, flat (``stages.0.lr``), and the data.

    ``data``: the fingerprint of the data. ``base``: the fingerprint of the weights below an adapter.
    """
    values = {**to_dict(recipe), "decoder": to_dict(recipe.decoder_config(1))}
    values["vision"]["backbone_args"] = str(values["vision"]["backbone_args"])
    settings = {name: value for name, value in _flat(values).items() if name not in _FREE}
    return {"settings": {**settings, "number of stages": len(recipe.stages), "base weights": base}, "data": data}


def _captions(data: Data) -> str:
    if isinstance(data.train, Samples):  # too many for a list
        return fingerprint(data.train) + fingerprint(data.validation)
    return fingerprint([*data.train, *data.validation])


def data_fingerprint(data: Data, tokenizer: CaptionTokenizer) -> str:
    """Return a fingerprint of all captions and texts for training and validation, of repeats and of the tokenizer."""
    captions = _captions(data)
    text = [*data.text, *data.validation_text, tokenizer.to_json()]
    if data.repeats is not None:
        text.append(repr(tuple(data.repeats)))
    return captions + hashlib.sha256("\n".join(text).encode()).hexdigest()[:12]


def refuse_another(state: Mapping[str, Any], identity: Mapping[str, Any], directory: Path) -> None:
    """Raise ``TrainingError`` if ``state`` belongs to a run with other settings or data than ``identity``."""
    saved = state.get("identity")
    if saved is None:  # an old state without an identity
        return
    old, new = saved["settings"], identity["settings"]
    for name, value in old.items():
        if new.get(name, value) != value:  # a setting in only one of them belongs to another version of this package
            raise TrainingError(
                f"the run in {directory} was started with {name} = {value!r}, not {new[name]!r}; resume it "
                "with its own recipe, or choose another --out"
            )
    if saved["data"] != identity["data"]:
        raise TrainingError(
            f"the run in {directory} was started on other data (images, captions or text have changed); resume it with "
            "its own data, or choose another --out"
        )


def random_state() -> dict[str, Any]:
    """Return the state of torch's random generators, which dropout draws from."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore a ``random_state``, of as many GPUs as there are here: a run may resume on another number of them."""
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])


def _flat(values: Any, name: str = "") -> dict[str, Any]:
    if isinstance(values, Mapping):
        items = [(str(key), value) for key, value in values.items()]
    elif isinstance(values, list):
        items = [(str(index), value) for index, value in enumerate(values)]
    else:
        return {name: values}
    return {key: leaf for part, value in items for key, leaf in _flat(value, f"{name}.{part}".lstrip(".")).items()}
