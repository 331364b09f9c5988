"""The options of `captioner caption` for folders and files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from captioner.cli.arguments import argument
from captioner.folder.plan import OUTPUTS, Existing, Output, Plan, plan_of, template_of

NEED_WRITE = ("out", "existing", "separator", "before", "after", "template", "follow_links", "min_confidence")


@dataclass(frozen=True, kw_only=True)
class Writing:
    """The options for folders; None is the default of ``Plan``, since an option that was set needs --write."""

    write: str | None = field(
        default=None,
        metadata=argument(help=f"output formats, separated by commas: {','.join(OUTPUTS)}", metavar="KINDS"),
    )
    out: str | None = field(
        default=None,
        metadata=argument(
            help="output folder (default: caption files beside the photos, tables in the folder being captioned)",
            metavar="DIR",
        ),
    )
    existing: Existing | None = field(
        default=None,
        metadata=argument(
            help=f"existing captions: how to treat them; a blank file counts as none (default: {Plan.existing})"
        ),
    )
    separator: str | None = field(
        default=None,
        metadata=argument(
            help=f"separator for append and prepend, '\\n' is a line break (default: {Plan.separator!r})",
            metavar="TEXT",
        ),
    )
    before: str | None = field(
        default=None,
        metadata=argument(help="text before every written caption, such as a trigger word", metavar="TEXT"),
    )
    after: str | None = field(default=None, metadata=argument(help="text after every written caption", metavar="TEXT"))
    template: str | None = field(
        default=None,
        metadata=argument(help="template with {caption}, and {name} and {folder} of the photo", metavar="TEXT"),
    )
    follow_links: bool = field(
        default=False,
        metadata=argument(help="symlinks: write through those that lead out of the folder (default: refuse)"),
    )
    min_confidence: float | None = field(
        default=None,
        metadata=argument(help="confidence threshold, 0 to 1; captions below it go to review.jsonl", metavar="C"),
    )
    shard: str | None = field(
        default=None, metadata=argument(help="shard: caption only part I of N, for job arrays", metavar="I/N")
    )
    watch: bool = field(default=False, metadata=argument(help="watch the folder: caption new photos until Ctrl-C"))
    dry_run: bool = field(
        default=False,
        metadata=argument(help="dry run: print the action per photo; load no model, write nothing"),
    )
    report: str | None = field(
        default=None,
        metadata=argument(help="HTML report: photos and captions, least confident first", metavar="FILE.html"),
    )

    @property
    def given(self) -> bool:
        """True if one of these options was set."""
        return any(dataclasses.asdict(self).values())

    def check(self, paths: Sequence[str], *, stream: bool) -> None:
        """Raise ``UsageError`` for an option that needs another one or contradicts it."""
        from captioner.errors import UsageError

        values = dataclasses.asdict(self)
        if not self.write:
            unusable = [name for name in NEED_WRITE if values[name] not in (None, "") and values[name] is not False]
            if unusable:
                options = ", ".join("--" + name.replace("_", "-") for name in unusable)
                raise UsageError(f"{options} changes how captions are written to files; add --write {OUTPUTS[0]}")
        if self.given and stream:
            raise UsageError("--stream cannot be combined with --write or other options for folders; leave it out")
        if self.watch and "-" in paths:
            raise UsageError("--watch cannot be combined with - for stdin; name the folders to watch")
        if self.watch and (self.dry_run or self.report):
            raise UsageError("--watch runs until Ctrl-C; leave out --dry-run and --report")

    def plan(self, paths: Sequence[str]) -> Plan:
        """Return the plan of a run over ``paths``."""
        separator = Plan.separator if self.separator is None else self.separator
        outputs = tuple(name.strip() for name in self.write.split(",")) if self.write else ()
        return plan_of(
            paths,
            outputs=cast("tuple[Output, ...]", outputs),  # the plan checks them
            out=self.out,
            existing=self.existing or Plan.existing,
            template=template_of(self.template, self.before or "", self.after or ""),
            separator=separator.replace("\\n", "\n").replace("\\t", "\t"),
            min_confidence=self.min_confidence or Plan.min_confidence,
            shard=self.shard,
            follow_links=self.follow_links,
        )
