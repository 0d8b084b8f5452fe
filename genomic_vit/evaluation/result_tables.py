"""Results as tables of text, for the report and the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from genomic_vit.evaluation.comparison import ALL, MACRO
from genomic_vit.evaluation.decision import TOLD, net_benefit_at
from genomic_vit.evaluation.result_text import (
    auc_text,
    counts_text,
    difference_text,
    gap_text,
    interval_text,
    number_text,
    p_text,
    withheld_text,
)
from genomic_vit.evaluation.rows import Rows

METRICS = (
    "sensitivity", "specificity", "balanced_accuracy", "brier", "calibration_slope", "calibration_intercept",
    "expected_calibration_error",
)  # fmt: skip
LINES = ("calibration_slope", "calibration_intercept")


def ranking_row(here: pd.DataFrame, arm: str, reference: str, beside: pd.DataFrame | None = None) -> list[str]:
    """(arm, AUC, AUC by the other unit, AUC within folds, difference, p by Holm, p by permutation, AUPRC) of one arm.

    Args:
        here: results of one group, target and unit.
        arm, reference: names.
        beside: the same of the other unit; None leaves its AUC out. Where AUC is within folds already, the next is.
    """
    own = here[here["arm"] == arm].set_index("metric")
    gap = own.loc["auc_difference"] if "auc_difference" in own.index else None
    return [
        arm,
        interval_text(own.loc["auc"]),
        *([] if beside is None else [auc_text(beside, arm)]),
        *(number_text(own.loc[metric]["value"]) for metric in ("auc_within_folds",) if metric in own.index),
        gap_text(gap, arm, reference),
        p_text(gap["p_holm"]) if gap is not None else "",
        p_text(own.loc["auc"]["p"]),
        number_text(own.loc["average_precision"]["value"]),
    ]


def answer_row(here: pd.DataFrame, arm: str) -> list[str]:
    """(arm, METRICS, calibration error by chance) of one arm; slope and intercept with their intervals."""
    own = here[here["arm"] == arm].set_index("metric")
    return [
        arm,
        *(
            interval_text(own.loc[metric], digits=2) if metric in LINES else number_text(own.loc[metric]["value"])
            for metric in METRICS
        ),
        interval_text(own.loc["expected_calibration_error_by_chance"]),
    ]


def ranking_text(rows: Rows, fold_names: Sequence[str]) -> str:
    """Of which pairs AUROCs are, in words; `fold_names` are the sites where rows are ranked within folds."""
    if not rows.within_folds:
        return (
            "AUROC ranks the answers of all folds together; within folds: pairs of one fold alone, so that no two "
            "trainings are ranked against each other."
        )
    kept = np.unique(rows.fold[rows.ranked])
    lost = [fold_names[fold] for fold in np.unique(rows.fold) if fold not in kept]
    pairs = sum(
        int(rows.label[here].sum() * (1 - rows.label[here]).sum()) for here in (rows.fold == one for one in kept)
    )
    without = f" One class only, so no pair: {', '.join(lost)}." if lost else ""
    return (
        f"AUROC, AUPRC, differences and p rank patients of the same held-out site: {pairs} pairs in {len(kept)} sites, "
        f"each weighing its pairs.{without} Nothing is ranked across sites, as each model is calibrated to its own "
        "training sites. Calibration, Brier score, sensitivity, specificity and net benefit take all sites together, "
        "with whatever their other shares of positives do to them. The sites are taken as given: intervals speak of "
        "other patients there, not of other hospitals. Of sites with few patients of a class they come out a little "
        "narrow; DeLong's, auc_delong in results.csv, do not."
    )


def net_benefit_rows(here: pd.DataFrame) -> list[list[str]]:
    """Rows of (arm or act on all, net benefit at each of decision.TOLD)."""
    told = []
    for arm in dict.fromkeys(here[here["metric"] == net_benefit_at(TOLD[0])]["arm"]):
        own = here[here["arm"] == arm].set_index("metric")
        told.append([arm, *(interval_text(own.loc[net_benefit_at(threshold)]) for threshold in TOLD)])
    return told


def spread_text(here: pd.DataFrame, reference: str) -> str:
    """How the reference's AUC varies over folds and seeds, in words."""
    own = here[here["arm"] == reference].set_index("metric")
    if "auc_mean_of_folds" not in own.index:
        return ""
    folds = own.loc["auc_mean_of_folds"]
    said = (
        f"{reference}: mean of the folds' own AUROCs {folds['value']:.3f} ({folds['low']:.3f} to {folds['high']:.3f})."
    )
    if "auc_mean_of_seeds" in own.index:
        seeds = own.loc["auc_mean_of_seeds"]
        said += (
            f" Single seeds: mean {seeds['value']:.3f}, from {seeds['low']:.3f} to {seeds['high']:.3f}, "
            f"standard deviation {own.loc['auc_sd_over_seeds']['value']:.3f}."
        )
    return said


def macro_rows(results: pd.DataFrame, unit: str, reference: str, *, both: bool = False) -> list[list[str]]:
    """Rows of (arm, mean AUC over targets, with `both` that by the other unit, difference from the reference)."""
    here, beside = (rows_of(results, ALL, MACRO, one) for one in (unit, other_unit(unit)))
    auc, gaps = (here[here["metric"] == metric].set_index("arm") for metric in ("auc", "auc_difference"))
    return [
        [
            arm,
            interval_text(row),
            *([auc_text(beside, arm)] if both else []),
            gap_text(gaps.loc[arm] if arm in gaps.index else None, arm, reference),
        ]
        for arm, row in auc.iterrows()
    ]


class SubgroupTable(NamedTuple):
    """A subgroup and target: who, and rows of (arm, AUC, AUC by the other unit, difference, p by Holm).

    The other unit is left out where cases are patients; there are no rows where the numbers are withheld.
    """

    heading: str
    counts: str
    both_units: bool
    rows: list[list[str]]


def subgroup_tables(
    results: pd.DataFrame, groups: Sequence[str], targets: Sequence[str], unit: str, reference: str
) -> list[SubgroupTable]:
    """One table a subgroup and target."""
    told = []
    for group in groups:
        for target in targets:
            here, beside = (rows_of(results, group, target, one) for one in (unit, other_unit(unit)))
            first = here.iloc[0]
            heading, counts, both = f"{group}: {target}", counts_text(first), bool(first["cases"] > first["patients"])
            if (here["metric"] == "withheld").any():
                told.append(SubgroupTable(heading, f"{counts}; {withheld_text(here)}", both, []))
                continue
            gaps = here[here["metric"] == "auc_difference"].set_index("arm")
            rows = []
            for _, row in here[here["metric"] == "auc"].iterrows():
                gap = gaps.loc[row["arm"]] if row["arm"] in gaps.index else None
                aucs = [interval_text(row), *([auc_text(beside, row["arm"])] if both else [])]
                p = p_text(gap["p_holm"]) if gap is not None else ""
                rows.append([row["arm"], *aucs, gap_text(gap, row["arm"], reference), p])
            told.append(SubgroupTable(heading, counts, both, rows))
    return told


def other_unit(unit: str) -> str:
    """Case of patient, patient of case."""
    return "case" if unit == "patient" else "patient"


def heat_table(results: pd.DataFrame, what: Literal["heat_in_lesion", "pointing_game"]) -> list[list[str]]:
    """Rows of (arm, value, chance, beyond it, the same of single networks, beyond area)."""
    here = results[results["target"] == "heat"]
    told = []
    for arm in dict.fromkeys(here["arm"]):
        own = here[here["arm"] == arm].set_index("metric")
        beyond, networks = own.loc[f"{what}_beyond_chance"], own.loc[f"{what}_beyond_chance_of_networks"]
        known = beyond["patients"] > 0  # some patient has another in its fold
        told.append(
            [
                arm,
                *(number_text(own.loc[metric]["value"]) for metric in (what, f"{what}_by_chance")),
                difference_text(beyond) if known else "–",
                f"{networks['low']:+.3f} to {networks['high']:+.3f}" if known else "–",
                difference_text(own.loc[f"{what}_beyond_area"]),
            ]
        )
    return told


def same_heat_text(tables: Sequence[list[list[str]]]) -> str:
    """That staged and vit have one ViT, where both stand in these tables of heat, with the same numbers."""
    first, second = ([row[1:] for table in tables for row in table if row[0] == arm] for arm in ("staged", "vit"))
    if not first or first != second:
        return ""
    return "staged and vit have the same numbers: one ViT, trained alone, before staged's CNN."


def rows_of(results: pd.DataFrame, group: str, target: str, unit: str) -> pd.DataFrame:
    """The results of one group, target and unit."""
    return results[(results["group"] == group) & (results["target"] == target) & (results["unit"] == unit)]
