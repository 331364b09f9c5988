"""Pushing captioners to the Hugging Face hub, where others load them by ``org/name``.

The push holds the files of a checkpoint directory, with front matter added to the card.
``captioner.checkpoint.files`` downloads.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from captioner.checkpoint import Restorable, save
from captioner.checkpoint.card import hub_card
from captioner.checkpoint.files import SHIPPED_NAME, WEIGHTS, first_line, read_json, read_text
from captioner.checkpoint.locate import find
from captioner.config import to_dict
from captioner.errors import CheckpointError
from captioner.inference import PreparedCheckpoint

ADAPTER = "adapter/"


def push_to_hub(
    source: str | os.PathLike[str] | Restorable | None,
    name: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    license: str | None = None,
    message: str = "Push a captioner",
    token: str | bool | None = None,
) -> str:
    """Push a captioner to the repository ``name`` (``org/name``), created if missing; return the URL of its page.

    source: Anything that ``load`` accepts, a checkpoint in memory, or a pipeline. For a pipeline from ``load``, the
        files that it was loaded from are pushed, with its present options.
    private: Make a new repository private.
    revision: Branch, created if missing.
    license: Licence identifier of the hub, such as apache-2.0; replaces the one in the card. The training photos may
        restrict the choice.

    Other files of the repository stay. Raises ``CheckpointError`` if the push fails, and for an adapter whose base
    others cannot load.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    with tempfile.TemporaryDirectory(prefix="captioner-") as folder:
        files = _files(source, Path(folder) / "captioner")
        base = _base(files)
        card = files.get("README.md", b"")
        text = card.decode() if isinstance(card, bytes) else read_text(card)
        hub_card(text, name, license=license, base=base)  # raises before a repository is created
        api = HfApi(token=token, library_name="captioner")
        try:
            page = api.create_repo(name, private=private, exist_ok=True)
            files["README.md"] = hub_card(text, page.repo_id, license=license, base=base).encode()
            if revision is not None:
                api.create_branch(page.repo_id, branch=revision, exist_ok=True)
            existing = api.list_repo_files(page.repo_id, revision=revision)
            stale = [old for old in existing if (old == WEIGHTS or old.startswith(ADAPTER)) and old not in files]
            api.create_commit(
                page.repo_id,
                [
                    *(
                        CommitOperationAdd(path_in_repo=path, path_or_fileobj=content)
                        for path, content in files.items()
                    ),
                    *(CommitOperationDelete(path_in_repo=path) for path in stale),
                ],
                commit_message=message,
                revision=revision,
            )
        except Exception as error:  # huggingface_hub raises a dozen classes
            raise CheckpointError(
                f"cannot push to {name} ({first_line(error)}); log in with `hf auth login` or set HF_TOKEN, and choose "
                "a repository that you may write to"
            ) from error
        return str(page)


def _files(source: str | os.PathLike[str] | Restorable | None, space: Path) -> dict[str, Path | bytes]:
    """Return the files of a checkpoint by their names in its directory."""
    more: dict[str, Path | bytes] = {}
    prepared = getattr(source, "checkpoint", source)  # of a pipeline
    if source is None or isinstance(source, (str, os.PathLike)):
        directory = find(source)
    elif isinstance(prepared, PreparedCheckpoint) and prepared.kept is None and prepared.source:
        directory = find(None if prepared.source == SHIPPED_NAME else prepared.source)
        more["generation.json"] = (json.dumps(to_dict(prepared.generation), indent=2) + "\n").encode()
    else:
        directory = save(source, space)
    read_json(directory / "config.json")  # raises unless it is a checkpoint
    paths = [directory / name for name in ("config.json", "tokenizer.json", "generation.json", "training.json")]
    paths += [directory / WEIGHTS, directory / "README.md", *directory.glob(ADAPTER + "*")]
    return {path.relative_to(directory).as_posix(): path for path in paths if path.is_file()} | more


def _base(files: dict[str, Path | bytes]) -> str:
    """Return the hub id of an adapter's base; "" for the shipped model, and for a checkpoint without adapter."""
    config = files["config.json"]
    assert isinstance(config, Path)
    values = read_json(config).get("base")
    base = str(values.get("source", "")) if isinstance(values, dict) else ""
    if not base or base == SHIPPED_NAME:
        return ""
    if base.startswith("/") or Path(base).exists():
        raise CheckpointError(
            f"its base {base} is a directory that others do not have; push the base first and write its hub id as the "
            "source of the base in config.json, or merge the adapter: captioner convert DIR MERGED --merge"
        )
    return base.partition("@")[0]
