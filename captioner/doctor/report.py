"""The report: sections of facts, then warnings with their remedies; as text, or ready for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from captioner.doctor import files, machine, software, trial
from captioner.doctor.lines import Fact, Line, Probe, Warned, lines_of

SECTIONS: Mapping[str, Mapping[str, Probe]] = {
    "system": {"versions": machine.versions, "CPU": machine.cpu, "threads": machine.threads},
    "packages": {
        "native library": software.native,
        "OpenMP": software.openmp,
        "torch": software.torch_build,
        "torchvision": software.torchvision,
        "packages": software.packages,
        "extras": software.extras,
    },
    "files": {"shipped model": files.model, "caches": files.caches},
    "trial": {"trial": trial.trial},
}
"""The probes of each section, by the name that a failed one has in the report."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of all probes."""

    facts: Mapping[str, tuple[Fact, ...]]  # by section
    warnings: tuple[Warned, ...]

    @property
    def healthy(self) -> bool:
        """True if captions can be written."""
        return not any(warning.fatal for warning in self.warnings)

    def text(self) -> str:
        """Return the report as lines of text."""
        lines = []
        for section, facts in self.facts.items():
            lines += [section, *(f"  {fact.name}: {fact.value}" for fact in facts)]
        lines += [f"warning: {warning.problem}; {warning.remedy}" for warning in self.warnings]
        return "\n".join([*lines, *(() if self.warnings else ("no problems were found",))])

    def figures(self) -> dict[str, Any]:
        """Return the report ready for JSON."""
        return {
            **{section: {fact.name: fact.value for fact in facts} for section, facts in self.facts.items()},
            "warnings": [{"problem": warning.problem, "remedy": warning.remedy} for warning in self.warnings],
        }


def examine(sections: Mapping[str, Mapping[str, Probe]] = SECTIONS) -> Report:
    """Run all probes and return what they found."""
    found: dict[str, list[Line]] = {
        section: [line for name, probe in probes.items() for line in lines_of(name, probe)]
        for section, probes in sections.items()
    }
    return Report(
        facts={section: tuple(line for line in lines if isinstance(line, Fact)) for section, lines in found.items()},
        warnings=tuple(line for lines in found.values() for line in lines if isinstance(line, Warned)),
    )
