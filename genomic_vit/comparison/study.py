"""What all parts of a benchmark share, and everything that can be refused before one is trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from genomic_vit.config import UserError
from genomic_vit.data.prepare import Prepared
from genomic_vit.data.scan_record import ScanRecord
from genomic_vit.evaluation.arms import ARMS, NetworkArm, TableArm, needs_outline
from genomic_vit.evaluation.covariates import check_covariates
from genomic_vit.evaluation.features import covariate_table, radiomics, size
from genomic_vit.evaluation.held_out import check_parts, plan_folds
from genomic_vit.evaluation.leakage import check_leaks
from genomic_vit.evaluation.plan import BenchmarkConfig, find_covariate, members

NO_OUTLINE = "not every lesion has an outline"


class BenchmarkError(UserError):
    """The benchmark cannot be run as asked, or parts of it failed; the message says which and what to do."""


@dataclass(frozen=True, eq=False)
class Study:
    """What all parts share.

    Args:
        config: of the benchmark.
        prepared: cases with their slabs.
        folds: fold of each case, (case).
        tables: features of the arms without a network, by name.
        digest: of cases, labels, folds and pixels.
        checked: what was looked for across folds and not found, in words.
    """

    config: BenchmarkConfig
    prepared: Prepared
    folds: np.ndarray
    tables: dict[str, pd.DataFrame]
    digest: str
    checked: str = ""


def plan_study(
    config: BenchmarkConfig, prepared: Prepared, records: Sequence[ScanRecord] | None = None
) -> tuple[Study, tuple[str, ...], list[tuple[str, str]], list[str]]:
    """Folds, features and everything that can be refused before training; `records` are of the scan of each case.

    Returns:
        the study, what each fold holds out, (arm, reason) of arms that cannot be fed, warnings.

    Raises:
        UserError: folds, covariates or cases cannot be used, or the cohort cannot feed the reference.
    """
    cohort = prepared.cohort
    for name in config.covariates:
        find_covariate(name, cohort.covariates, "benchmark")
    folds, fold_names = plan_folds(config, cohort)
    check_parts(config, cohort, folds, fold_names)
    checked = check_leaks(cohort, prepared.slabs, folds, records)
    used = [c for c in cohort.covariates if c.name in (*config.clinical, *config.acquisition)]
    warnings = check_covariates(cohort, used, folds, config.run.seed)
    for condition in config.subgroups:
        if not members(condition, cohort.covariates).any():
            warnings.append(f"subgroup {condition} has no case")
    bare = int(np.isnan([slab.diameter_mm for slab in prepared.slabs]).sum())
    if bare and any(isinstance(ARMS[name], NetworkArm) for name in config.arms):
        warnings.append(
            f"{bare} of {len(prepared.slabs)} lesions have no outline (points, boxes, whole lungs): where heat lies is "
            "told of the ball, box or lungs in its place"
        )
    tables, left_out = feed_arms(config, prepared)
    _check_fed(config, dict(left_out))
    study = Study(config, prepared, folds, tables, study_digest(prepared, folds), checked)
    return study, fold_names, left_out, warnings


def feed_arms(config: BenchmarkConfig, prepared: Prepared) -> tuple[dict[str, pd.DataFrame], list[tuple[str, str]]]:
    """Feature tables of the arms without a network, and (arm, reason) of all arms that the cohort cannot feed."""
    tables: dict[str, pd.DataFrame] = {}
    left_out = []
    covariates = {covariate.name: covariate for covariate in prepared.cohort.covariates}
    outlined = not np.isnan([slab.diameter_mm for slab in prepared.slabs]).any()
    for name in config.arms:
        arm = ARMS[name]
        if not isinstance(arm, TableArm):
            if needs_outline(arm) and not outlined:  # the ball or box in its place would be taken for it
                left_out.append((name, NO_OUTLINE))
            continue
        asked = {"clinical": config.clinical, "site": config.acquisition}.get(arm.features, ())
        if arm.features in ("clinical", "site"):
            if asked:
                tables[arm.features] = covariate_table([covariates[column] for column in asked])
            else:
                setting = {"clinical": "clinical", "site": "acquisition"}[arm.features]
                left_out.append((name, f"no covariates are named in {setting}"))
        elif not outlined:
            left_out.append((name, NO_OUTLINE))
        elif arm.features not in tables:
            tables[arm.features] = {"radiomics": radiomics, "size": size}[arm.features](prepared.slabs)
    return tables, left_out


def _check_fed(config: BenchmarkConfig, left_out: dict[str, str]) -> None:
    """Raise BenchmarkError where nothing is left to compare, or nothing to compare it with."""
    others = [name for name in config.arms if name not in left_out]
    if not others:
        listed = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise BenchmarkError(f"no arm can be fed ({listed}). Name covariates for them, or compare other arms (--arms).")
    if config.reference in left_out:
        raise BenchmarkError(
            f"the reference {config.reference!r} cannot be fed: {left_out[config.reference]}. Mend that, or choose "
            f"another --reference among {', '.join(others)}."
        )


def study_digest(prepared: Prepared, folds: np.ndarray) -> str:
    """Hash of who is in, with which labels, in which fold, and of every voxel of the slabs."""
    digest = hashlib.blake2b(digest_size=16)
    cohort = prepared.cohort
    told = [[case.case, case.patient] for case in cohort.cases]
    digest.update(json.dumps([told, cohort.targets, folds.tolist()]).encode())
    digest.update(cohort.labels.tobytes())
    for slab in prepared.slabs:
        digest.update(slab.hu.tobytes() + slab.lesion.tobytes())
    return digest.hexdigest()
