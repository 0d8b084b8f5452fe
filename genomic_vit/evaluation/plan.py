"""What a benchmark is: which arms, on which folds and seeds, against which reference."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from genomic_vit.cohort.labels import Covariate
from genomic_vit.config import ConfigError, RunConfig, SplitConfig
from genomic_vit.evaluation.arms import ARMS, find_arm, trained_for

QUICK_FOLDS, QUICK_EPOCHS = 3, 8
SIGNS = {"=": np.equal, "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}
CONDITION = re.compile(r"^\s*(?P<name>[^<>=!]+?)\s*(?P<sign>[<>]=?|=)\s*(?P<value>[^<>=!].*?)\s*$")


@dataclass(frozen=True)
class BenchmarkConfig:
    """One comparison, whole.

    Args:
        run: settings of cohort and networks, as train takes them; mode, seed and split.folds are the benchmark's.
        arms: names of the arms to compare.
        reference: the arm that all others are compared with.
        folds: patient-level folds, the same for all arms.
        site: covariate whose sites are held out one by one, in place of folds.
        seeds: of initial weights, batches, augmentation and inner split; an arm's answer is the mean over them.
        clinical: covariates of the arm clinical.
        acquisition: covariates of the arm site (scanner, kernel, slice thickness, hospital).
        subgroups: conditions on covariates, such as sex=Female, diameter_mm<10 or age>=65; with =, <, <=, > or >=.
        minimum: fewest patients of a subgroup whose numbers are given.
        unit: what a row of the main table counts, patients (mean over their cases) or cases.
        lesion_weight: mu of the arm joint+lesion.
    """

    run: RunConfig = field(default_factory=RunConfig)
    arms: tuple[str, ...] = tuple(ARMS)
    reference: str = "joint"
    folds: int = 5
    site: str | None = None
    seeds: tuple[int, ...] = (0,)
    clinical: tuple[str, ...] = ()
    acquisition: tuple[str, ...] = ()
    subgroups: tuple[str, ...] = ()
    minimum: int = 20
    unit: Literal["patient", "case"] = "patient"
    lesion_weight: float = 0.3

    def __post_init__(self) -> None:
        for name in ("arms", "seeds", "clinical", "acquisition", "subgroups"):
            given = tuple(getattr(self, name))
            object.__setattr__(self, name, given)
            _require(len(set(given)) == len(given), f"{name} names something twice: {', '.join(map(str, given))}")
        _require(bool(self.arms), f"arms is empty; known: {', '.join(ARMS)}")
        for name in (*self.arms, self.reference):
            find_arm(name)
        _require(self.reference in self.arms, f"reference {self.reference!r} is not among the arms; add it there")
        lost = [name for name in self.arms if trained_for(ARMS[name]) not in self.arms]
        _require(not lost, f"arm {lost and lost[0]!r} swaps the heat of 'joint', which is not among the arms; add it")
        _require(self.folds >= 2, f"folds is {self.folds}; at least 2 are needed")
        _require(bool(self.seeds) and min(self.seeds) >= 0, f"seeds is {self.seeds}; give one or more, 0 or above")
        _require(self.minimum >= 2, f"minimum is {self.minimum}; at least 2 patients make a subgroup")
        _require(self.unit in ("patient", "case"), f"unit is {self.unit!r}; it must be patient or case")
        _require(self.lesion_weight > 0, f"lesion_weight is {self.lesion_weight}; it must be positive")
        split = SplitConfig(validation=self.run.split.validation)
        _require(self.run.split == split, "run.split.folds and run.split.fold are the benchmark's: set folds instead")
        _require(
            self.run.mode == "joint" and self.run.training.lesion_weight == 0,
            "run.mode and run.training.lesion_weight are set by the arms; leave them out (arms: staged, joint+lesion)",
        )
        for text in self.subgroups:
            _require(
                CONDITION.match(text) is not None,
                f"subgroup {text!r} is no condition; write name=value, or name, one of < <= > >= and a number",
            )

    @property
    def covariates(self) -> tuple[str, ...]:
        """Names of all covariates that are asked for, each once."""
        asked = [*self.clinical, *self.acquisition, *([self.site] if self.site else [])]
        asked += [CONDITION.match(text)["name"] for text in self.subgroups]
        return tuple(dict.fromkeys(asked))


def quick(config: BenchmarkConfig) -> BenchmarkConfig:
    """A short rehearsal: first seed, at most 3 folds and 8 epochs, heat replaced at test time only."""
    training = replace(config.run.training, epochs=min(config.run.training.epochs, QUICK_EPOCHS))
    arms = tuple(name for name in config.arms if not name.startswith("heat-") or name == config.reference)
    return replace(
        config,
        run=replace(config.run, training=training),
        arms=arms,
        folds=min(config.folds, QUICK_FOLDS),
        seeds=config.seeds[:1],
    )


def members(condition: str, covariates: tuple[Covariate, ...]) -> np.ndarray:
    """Which cases fulfil a subgroup's condition, bool (case); a missing value never does.

    Raises:
        ConfigError: no such covariate, or a comparison with <, <=, > or >= of one that is no number.
    """
    name, sign, value = CONDITION.match(condition).group("name", "sign", "value")
    covariate = find_covariate(name, covariates, f"subgroup {condition!r}")
    if sign == "=" and covariate.kind == "category":
        return (covariate.values == value) & ~covariate.missing
    try:
        number = float(value)
    except ValueError as cause:
        raise ConfigError(f"subgroup {condition!r}: {value!r} is no number, and {name} holds numbers") from cause
    if covariate.kind == "category":
        raise ConfigError(f"subgroup {condition!r}: {name} is a category; write {name}={value}, or make it a number")
    with np.errstate(invalid="ignore"):
        return SIGNS[sign](covariate.values, number)


def find_covariate(name: str, covariates: tuple[Covariate, ...], asked_by: str) -> Covariate:
    """The covariate of a name.

    Raises:
        ConfigError: the cohort has none of that name.
    """
    for covariate in covariates:
        if covariate.name == name:
            return covariate
    known = ", ".join(covariate.name for covariate in covariates) or "none"
    raise ConfigError(
        f"{asked_by}: there is no covariate {name!r} (declared: {known}); declare it in run.labels.covariates, "
        f"such as {name}: {{column: {name}, kind: number}}"
    )


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)
