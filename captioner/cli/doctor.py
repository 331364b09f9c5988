"""Report what this installation uses and why: CPU, threads, native library, torch, extras, model, caches.

The report names no files of yours and holds no tokens, so it can go into a bug report. Exit code 0: captions can be
written, even if there are warnings. 1: they cannot.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from captioner.cli.arguments import argument
from captioner.cli.output import print_json, print_text


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `captioner doctor`."""

    json: bool = field(default=False, metadata=argument(help="print the report as one JSON object"))


def run(options: Options) -> int:
    from captioner.doctor.report import examine

    report = examine()
    if options.json:
        print_json(report.figures())
    else:
        print_text(report.text())
    return 0 if report.healthy else 1
