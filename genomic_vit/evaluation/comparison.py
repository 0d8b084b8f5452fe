"""Every number of a comparison: arms with intervals, differences from the reference, subgroups, several targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from genomic_vit.cohort.manifest import Cohort
from genomic_vit.evaluation.calibration import (
    calibration_error_by_chance,
    calibration_lines,
    expected_calibration_error,
)
from genomic_vit.evaluation.decision import decision_rows
from genomic_vit.evaluation.delong import auc_intervals, delong
from genomic_vit.evaluation.differences import correct_over_targets, differences
from genomic_vit.evaluation.macro import macro_counts, macro_rows, macro_withheld
from genomic_vit.evaluation.metrics import (
    OF_DECISION,
    OF_PROBABILITY,
    REPLICATES,
    auc,
    average_precision,
    interval,
    patient_weights,
    resampled,
)
from genomic_vit.evaluation.out_of_fold import OutOfFold
from genomic_vit.evaluation.permutation import permutation_p
from genomic_vit.evaluation.rows import Rows, make_rows, result_row

ALL = "all"
MACRO = "macro mean"
MIN_CLASS = 5  # fewest patients of either class whose numbers are given
COLUMNS = (
    "group", "target", "unit", "arm", "metric", "value", "low", "high", "p", "p_holm",
    "patients", "cases", "positive", "note",
)  # fmt: skip


def compare(
    cohort: Cohort,
    arms: Sequence[OutOfFold],
    folds: np.ndarray,
    reference: str,
    groups: Mapping[str, np.ndarray],
    minimum: int,
    main_unit: str,
    seed: int,
    *,
    within_folds: bool = False,
) -> pd.DataFrame:
    """All numbers, one a row, with COLUMNS.

    Where folds are sites, `within_folds` makes every ranking one of patients of the same site: AUC, average precision,
    differences, DeLong, p, subgroups and macro mean (`metrics.auc`), and samples keep each site's number of either
    class. Brier, calibration, decisions and net benefit judge each probability by itself and stay pooled; that a site
    has another share of positives is in them, as it is for who would use the model there. Where folds are dealt by
    label, all are ranked together, and `auc_within_folds` stands beside.

    Args:
        cohort: who.
        arms: those whose every part is there.
        folds: (case).
        reference: arm that the others are compared with, where it is among them.
        groups: name → bool (case); `ALL` is added.
        minimum: fewest patients of a group other than all.
        main_unit: patient or case: the unit for which everything is told; of the other, AUCs alone.
        seed: of all resampling.
        within_folds: rank patients within their fold alone.
    """
    frames = []
    for group, member in ({ALL: np.ones(len(cohort.cases), dtype=bool)} | dict(groups)).items():
        for unit in ("patient", "case"):
            of_targets, reasons = [], {}
            for column, target in enumerate(cohort.targets):
                known = member & ~np.isnan(cohort.labels[:, column])
                rows = make_rows(cohort, arms, folds, known, column, unit, within_folds=within_folds)
                told = {"group": group, "target": target, "unit": unit} | _counts(rows)
                of_targets.append(rows)
                reasons[target] = _withheld(rows, minimum if group != ALL else 0)
                if reasons[target]:
                    frames.append(pd.DataFrame([told | {"metric": "withheld", "note": reasons[target]}]))
                    continue
                scored = score_rows(rows, reference, seed, full=unit == main_unit)
                scored += decision_rows(rows, seed) if unit == main_unit else []
                frames.append(pd.DataFrame(scored).assign(**told))
            if len(cohort.targets) > 1:
                told = {"group": group, "target": MACRO, "unit": unit} | macro_counts(cohort, member, unit)
                reason = macro_withheld(reasons)
                macro = [{"metric": "withheld", "note": reason}] if reason else macro_rows(of_targets, reference, seed)
                frames.append(pd.DataFrame(macro).assign(**told))
    return correct_over_targets(pd.concat(frames, ignore_index=True).reindex(columns=list(COLUMNS)))


def score_rows(rows: Rows, reference: str, seed: int, *, full: bool) -> list[dict]:
    """Metrics of each arm and differences from the reference; with `full` off, AUC and average precision alone."""
    label, weights = rows.label, patient_weights(rows.patients, rows.label, seed, REPLICATES, rows.strata)
    once, names = np.ones((1, len(label))), list(rows.probability)
    ranked = partial(auc, strata=rows.strata)
    aucs = delong(label, np.stack([rows.probability[name] for name in names]), rows.patients, rows.strata)
    samples = {name: resampled(ranked, label, rows.probability[name], weights) for name in names}
    told = []
    for place, (name, (low, high)) in enumerate(zip(names, auc_intervals(aucs), strict=True)):
        p, decided = rows.probability[name], rows.decided[name]
        permuted = permutation_p(rows, name, seed) if full else np.nan
        told.append(result_row(name, "auc", aucs.value[place], *interval(samples[name]), p=permuted, note=_pairs(rows)))
        told.append(result_row(name, "auc_delong", aucs.value[place], low, high))
        metrics = OF_PROBABILITY | {"average_precision": partial(average_precision, strata=rows.strata)}
        metrics = {m: (f, p) for m, f in metrics.items() if m != "auc"} | {
            m: (f, decided) for m, f in OF_DECISION.items()
        }
        if not rows.within_folds:
            metrics["auc_within_folds"] = (partial(auc, strata=rows.fold), p)
        for metric, (function, given) in metrics.items():
            if full or metric == "average_precision":
                value = float(function(label, given, once)[0])
                told.append(result_row(name, metric, value, *interval(resampled(function, label, given, weights))))
        if full:
            lines = calibration_lines(label, p, rows.patients)
            told += [
                result_row(name, "calibration_slope", *lines.slope),
                result_row(name, "calibration_intercept", *lines.intercept),
            ]
            told += _calibration_errors(rows, name, seed)
            told += _spread(rows, name)
    return told + differences(names, reference, aucs, samples)


def _calibration_errors(rows: Rows, arm: str, seed: int) -> list[dict]:
    """The expected calibration error, and what it would be by chance were every probability right."""
    p = rows.probability[arm]
    error, chance = (
        expected_calibration_error(rows.label, p, np.ones((1, len(p)))),
        calibration_error_by_chance(p, seed),
    )
    note = "of labels drawn from the probabilities: mean, and 95 % of draws"
    return [
        result_row(arm, "expected_calibration_error", error[0], np.nan, np.nan, note="no interval: see the next"),
        result_row(arm, "expected_calibration_error_by_chance", np.mean(chance), *interval(chance), note=note),
    ]


def _spread(rows: Rows, arm: str) -> list[dict]:
    """How the AUC varies over folds and over seeds."""
    folds = []
    for fold in np.unique(rows.fold):
        here = rows.fold == fold
        if 0 < rows.label[here].sum() < here.sum():
            folds.append(auc(rows.label[here], rows.probability[arm][here], np.ones((1, int(here.sum()))))[0])
    told = []
    if folds:
        spread = np.mean(folds), np.min(folds), np.max(folds)
        told.append(result_row(arm, "auc_mean_of_folds", *spread, note="low, high: of folds"))
    seeds = [auc(rows.label, one, np.ones((1, len(one))), rows.strata)[0] for one in rows.per_seed[arm]]
    if len(seeds) > 1:
        told.append(
            result_row(arm, "auc_mean_of_seeds", np.mean(seeds), np.min(seeds), np.max(seeds), note="of single seeds")
        )
        told.append(result_row(arm, "auc_sd_over_seeds", np.std(seeds, ddof=1), np.nan, np.nan))
    return told


def _pairs(rows: Rows) -> str:
    """Of which folds the ranked pairs are, where they are of one fold each."""
    if not rows.within_folds:
        return ""
    folds, used = len(np.unique(rows.fold)), len(np.unique(rows.fold[rows.ranked]))
    return f"pairs within folds; {used} of {folds} have both classes, the others add none"


def _withheld(rows: Rows, minimum: int) -> str | None:
    """Why a group's numbers are not given; patients who are in no pair do not count."""
    who, label = rows.patients[rows.ranked], rows.label[rows.ranked]
    patients = len(set(who.tolist()))
    kinds = [len(set(who[label == kind].tolist())) for kind in (0, 1)]
    where = " in folds with both classes" if rows.within_folds else ""
    if patients < minimum:
        return f"{patients} patients{where}, fewer than {minimum}"
    if minimum and min(kinds) < MIN_CLASS:
        return f"{kinds[1]} positive and {kinds[0]} negative patients{where}, fewer than {MIN_CLASS}"
    if min(kinds) < 2:
        return f"{kinds[1]} positive and {kinds[0]} negative patients{where}"
    return None


def _counts(rows: Rows) -> dict[str, int]:
    return {"patients": len(set(rows.patients.tolist())), "cases": rows.cases, "positive": int(rows.label.sum())}
