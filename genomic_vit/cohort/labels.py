"""Targets and covariates out of a clinical table, with everything that is missing counted."""

from __future__ import annotations

import difflib
import logging
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from genomic_vit.cohort.table import LabelError, Table
from genomic_vit.config import CovariateRule, TargetRule, plain_text

MISSING = frozenset(
    plain_text(text)
    for text in (
        *(
            "",
            "na",
            "n/a",
            "nan",
            "none",
            "null",
            "?",
            "-",
            ".",
            "unknown",
            "missing",
            "not available",
            "not applicable",
        ),
        *("not collected", "not assessed", "not recorded", "not recorded in database", "not reported", "not tested"),
    )
)
OUTCOME = re.compile(
    r"recur|relaps|progress|surviv|death|\bdead(status)?\b|deceased|\bdied\b|\btime to\b|last (known )?alive|follow.?up"
    r"|vital status|\b(os|pfs|dfs|rfs|efs|ttp)\b|adjuvant|chemotherap|radiotherap|^radiation$"
    r"|radiation therap|treatment|response"
)
DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
NOT_THERE = "not in the table"
log = logging.getLogger(__name__)


class TooFewError(LabelError):
    """A target has too few positives or negatives to be learned."""


@dataclass(frozen=True, eq=False)
class Target:
    """A label column, read.

    Args:
        name: of the target.
        rule: where it was read, and how.
        cells: (row) of text as written.
        values: (row) of 1, 0, or NaN where missing.
    """

    name: str
    rule: TargetRule
    cells: np.ndarray
    values: np.ndarray

    def counts(self) -> tuple[int, int, int]:
        """How many are positive, negative, missing."""
        return int((self.values == 1).sum()), int((self.values == 0).sum()), int(np.isnan(self.values).sum())

    def take(self, rows: Sequence[int | None]) -> Target:
        """The target at some rows; None gives a missing one."""
        return replace(self, cells=_taken(self.cells, rows, NOT_THERE), values=_taken(self.values, rows, math.nan))

    def __str__(self) -> str:
        positive, negative, missing = self.counts()
        return (
            f"{self.name}: {positive} {'/'.join(self.rule.positive)}, {negative} {'/'.join(self.rule.negative)}, "
            f"{missing} missing{_listed(self.cells[np.isnan(self.values)])}"
        )


@dataclass(frozen=True, eq=False)
class Covariate:
    """A column that is known before the answer, read.

    Args:
        name: of the covariate.
        kind: "number" or "category".
        cells: (row) of text as written.
        values: (row); floats with NaN where missing, or texts with "" where missing.
    """

    name: str
    kind: Literal["number", "category"]
    cells: np.ndarray
    values: np.ndarray

    @property
    def missing(self) -> np.ndarray:
        """Bool (row)."""
        return np.isnan(self.values) if self.kind == "number" else self.values == ""

    def take(self, rows: Sequence[int | None]) -> Covariate:
        """The covariate at some rows; None gives a missing one."""
        nothing = math.nan if self.kind == "number" else ""
        return replace(self, cells=_taken(self.cells, rows, NOT_THERE), values=_taken(self.values, rows, nothing))

    def written(self) -> list[str]:
        """The values as a CSV holds them; empty where missing."""
        return [
            "" if gone else f"{v:g}" if self.kind == "number" else v
            for v, gone in zip(self.values, self.missing, strict=True)
        ]

    def __str__(self) -> str:
        known = self.values[~self.missing]
        kinds = "" if self.kind == "number" else f" of {len(set(known))} kinds"
        missing = self.cells[self.missing]
        return f"{self.name}: {len(known)} known{kinds}, {len(missing)} missing{_listed(missing)}"


def read_target(table: Table, name: str, rule: TargetRule) -> Target:
    """Read a label column; what is neither positive nor negative by the rule is missing.

    Raises:
        LabelError: no such column, or a text of the rule stands nowhere in it.
    """
    cells = table.cells(rule.column)
    meaning = {plain_text(text): 0.0 for text in rule.negative} | {plain_text(text): 1.0 for text in rule.positive}
    values = np.array([meaning.get(plain_text(cell), math.nan) for cell in cells])
    target = Target(name, rule, np.array(cells, dtype=object), values)
    for kind, count, texts in zip(
        ("positive", "negative"), target.counts(), (rule.positive, rule.negative), strict=False
    ):
        if count == 0:
            near = difflib.get_close_matches(texts[0], sorted(set(target.cells[np.isnan(values)])), n=1, cutoff=0.5)
            raise LabelError(
                f"{table.where}: column {table.find(rule.column)!r} never holds {' or '.join(map(repr, texts))}, which "
                f"means {kind} for target {name!r}; it holds{_listed(target.cells)}."
                + (f" Did you mean {near[0]!r}?" if near else "")
            )
    return target


def read_covariate(table: Table, name: str, rule: CovariateRule, *, allow_outcome_columns: bool = False) -> Covariate:
    """Read a covariate.

    Raises:
        LabelError: no such column, nothing in it is known, or it is known only after treatment and that is not allowed.
    """
    column = table.find(rule.column)
    known_after = [text for text in (column, name) if OUTCOME.search(plain_text(text))]
    if known_after and not allow_outcome_columns:
        raise LabelError(
            f"{table.where}: covariate {name!r} takes column {column!r}, which reads like something known only after "
            "treatment: a model fed with it would look into the future. Leave it out, or pass --allow-outcome-columns."
        )
    cells = table.cells(column)
    texts = ["" if plain_text(cell) in MISSING else " ".join(cell.split()) for cell in cells]
    values: np.ndarray = np.array(texts, dtype=object)
    if rule.kind == "number":
        commas = [text for text in texts if DECIMAL_COMMA.fullmatch(text)]
        if commas:
            raise LabelError(
                f"{table.where}: covariate {name!r}: column {column!r} holds numbers with a comma"
                f"{_listed(commas, most=3)}; write 65.5 for 65,5, or save the table as XLSX."
            )
        values = np.array([_number(text) for text in texts])
    covariate = Covariate(name, rule.kind, np.array(cells, dtype=object), values)
    if covariate.missing.all():
        raise LabelError(
            f"{table.where}: covariate {name!r} ({rule.kind}): column {column!r} holds nothing known:{_listed(cells)}."
            + (" Is its kind category?" if rule.kind == "number" else "")
        )
    return covariate


def check_learnable(target: Target, where: str, min_cases: int) -> None:
    """Raise TooFewError where a target has fewer than `min_cases` positives or negatives."""
    positive, negative, _ = target.counts()
    if min(positive, negative) < min_cases:
        few, kind = (positive, "positive") if positive <= negative else (negative, "negative")
        raise TooFewError(
            f"{where}: target {target}. {few} {kind} {'is' if few == 1 else 'are'} too few to learn from, at least "
            f"{min_cases} are needed. Choose another target, or lower labels.min_cases (--min-cases)."
        )


def pick(wanted: tuple[str, ...], known: dict[str, TargetRule], where: str) -> dict[str, TargetRule]:
    """The rules of the wanted targets; case is forgiven.

    Raises:
        LabelError: one is unknown; near misses are suggested.
    """
    plain = {plain_text(name): name for name in known}
    picked = {}
    for name in wanted:
        if plain_text(name) not in plain:
            near = difflib.get_close_matches(plain_text(name), plain, n=1, cutoff=0.5)
            hint = f"did you mean {plain[near[0]]!r}?" if near else f"known: {', '.join(known)}"
            raise LabelError(f"{where}: no target {name!r}; {hint}")
        picked[name] = known[plain[plain_text(name)]]
    return picked


def _taken(values: np.ndarray, rows: Sequence[int | None], nothing: object) -> np.ndarray:
    return np.array([nothing if row is None else values[row] for row in rows], dtype=values.dtype)


def _listed(cells: Sequence[str], most: int = 8) -> str:
    """Texts with how often each stands there, the most frequent first."""
    counted = Counter(cell or "empty" for cell in cells).most_common()
    rest = sum(count for _, count in counted[most:])
    parts = [f"{count} {text}" for text, count in counted[:most]] + ([f"{rest} others"] if rest else [])
    return f" ({', '.join(parts)})" if parts else ""


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
