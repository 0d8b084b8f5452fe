"""Results as tables of text, for the report and the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from genomic_vit.evaluation.comparison import ALL, MACRO
from genomic_vit.evaluation.decision import TOLD, net_benefit_at
from genomic_vit.evaluation.rows import Rows

METRICS = (
    "sensitivity", "specificity", "balanced_accuracy", "brier", "calibration_slope", "calibration_intercept",
    "expected_calibration_error",
)  # fmt: skip


def ranking_row(here: pd.DataFrame, arm: str, reference: str) -> list[str]:
    """(arm, AUC, AUC within folds, difference, p by Holm, p by permutation, AUPRC) of one arm.

    Where AUC is within folds already, the second is left out.
    """
    own = here[here["arm"] == arm].set_index("metric")
    gap = own.loc["auc_difference"] if "auc_difference" in own.index else None
    return [
        arm,
        interval_text(own.loc["auc"]),
        *(_number(own.loc[metric]["value"]) for metric in ("auc_within_folds",) if metric in own.index),
        gap_text(gap, arm, reference),
        _p(gap["p_holm"]) if gap is not None else "",
        _p(own.loc["auc"]["p"]),
        _number(own.loc["average_precision"]["value"]),
    ]


def answer_row(here: pd.DataFrame, arm: str) -> list[str]:
    """(arm, METRICS, calibration error by chance) of one arm."""
    own = here[here["arm"] == arm].set_index("metric")
    return [
        arm,
        *(_number(own.loc[metric]["value"]) for metric in METRICS),
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


def macro_rows(results: pd.DataFrame, unit: str, reference: str) -> list[list[str]]:
    """Rows of (arm, mean AUC over targets, difference from the reference)."""
    here = rows_of(results, ALL, MACRO, unit)
    auc, gaps = (here[here["metric"] == metric].set_index("arm") for metric in ("auc", "auc_difference"))
    return [
        [arm, interval_text(row), gap_text(gaps.loc[arm] if arm in gaps.index else None, arm, reference)]
        for arm, row in auc.iterrows()
    ]


def subgroup_rows(
    results: pd.DataFrame, groups: Sequence[str], targets: Sequence[str], unit: str, reference: str
) -> list[list[str]]:
    """Rows of (group, target, arm, patients, cases, positive, AUC, difference), or why a group's are withheld."""
    told = []
    for group in groups:
        for target in targets:
            here = rows_of(results, group, target, unit)
            if (here["metric"] == "withheld").any():
                told.append([group, target, "all", *_counts(here.iloc[0]), withheld_text(here), ""])
                continue
            gaps = here[here["metric"] == "auc_difference"].set_index("arm")
            for _, row in here[here["metric"] == "auc"].iterrows():
                arm = row["arm"]
                gap = gap_text(gaps.loc[arm] if arm in gaps.index else None, arm, reference)
                told.append([group, target, arm, *_counts(row), interval_text(row), gap])
    return told


def withheld_text(here: pd.DataFrame) -> str:
    """Why the numbers of these rows are not given."""
    return f"withheld: {'; '.join(here[here['metric'] == 'withheld']['note'])}"


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
                *(_number(own.loc[metric]["value"]) for metric in (what, f"{what}_by_chance")),
                difference_text(beyond) if known else "–",
                f"{networks['low']:+.3f} to {networks['high']:+.3f}" if known else "–",
                difference_text(own.loc[f"{what}_beyond_area"]),
            ]
        )
    return told


def rows_of(results: pd.DataFrame, group: str, target: str, unit: str) -> pd.DataFrame:
    """The results of one group, target and unit."""
    return results[(results["group"] == group) & (results["target"] == target) & (results["unit"] == unit)]


def _counts(row: pd.Series) -> list[str]:
    return [f"{row[name]:.0f}" for name in ("patients", "cases", "positive")]


def interval_text(row: pd.Series) -> str:
    """value (low–high); `to` where a sign stands beside the dash."""
    dash = " to " if row["low"] < 0 or row["high"] < 0 else "–"
    return f"{row['value']:.3f} ({row['low']:.3f}{dash}{row['high']:.3f})"


def difference_text(row: pd.Series) -> str:
    """Signed value (low to high)."""
    return f"{row['value']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"


def gap_text(row: pd.Series | None, arm: str, reference: str) -> str:
    """What stands in the column of differences from the reference; there are none where the reference is missing."""
    return difference_text(row) if row is not None else "reference" if arm == reference else "–"


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def _p(value: float) -> str:
    return "–" if np.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"
