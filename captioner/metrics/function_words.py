"""English function words: words without content of their own, as the Penn Treebank rules split them.

Three lists are built from the same groups. They differ because published figures and trained models depend on them: a
word that moves between the groups changes these.
"""

from __future__ import annotations

_BASIC = """
a an the this that these those some another other it its he she they his her their him them who which there
is are was be being been has have and or while as with without
in on at of to from by for into onto over under through up down out off near next
"""
_FURTHER = """
any each all both one no not can will were do does had having but if than when where what here 's n't
about across after against along around before behind between during
"""
_REST = """
i you we my your our hers whom whose ones others am did could would may nor so then also just very
above below back front top inside outside beside 're 've 'm 'd 'll -lrb- -rrb-
"""
_TAGS_ONLY = "doing every herself himself itself themselves"

BASIC_FUNCTION_WORDS = frozenset(_BASIC.split())
"""The shortest list. The probe uses it: docs/shipped-model.md gives shares of content words measured with it."""

FUNCTION_WORDS = BASIC_FUNCTION_WORDS | set(_FURTHER.split()) | set(_REST.split())
"""The longest list. The report of an evaluation uses it."""

NEVER_TAGS = BASIC_FUNCTION_WORDS - {"next", "without"} | set(_FURTHER.split()) | set(_TAGS_ONLY.split())
"""The words that are never tags of multitask training. A trained model's tags depend on this list."""
