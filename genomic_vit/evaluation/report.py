"""The report of a comparison: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from genomic_vit import __version__
from genomic_vit.data.prepare import Prepared
from genomic_vit.evaluation.arms import ARMS, NetworkArm, SwapArm
from genomic_vit.evaluation.checklist import fill
from genomic_vit.evaluation.cohort_table import cohort_note, describe_cohort, describe_flow, describe_folds
from genomic_vit.evaluation.comparison import ALL, MACRO
from genomic_vit.evaluation.decision import TOLD
from genomic_vit.evaluation.figures import curves, forest_plot
from genomic_vit.evaluation.known import known_answers, learnt_from
from genomic_vit.evaluation.metrics import average_precision
from genomic_vit.evaluation.out_of_fold import OutOfFold
from genomic_vit.evaluation.plan import BenchmarkConfig
from genomic_vit.evaluation.result_tables import (
    answer_row,
    heat_table,
    macro_rows,
    net_benefit_rows,
    other_unit,
    ranking_row,
    ranking_text,
    rows_of,
    same_heat_text,
    spread_text,
    subgroup_tables,
)
from genomic_vit.evaluation.result_text import auc_text, counts_text, gap_text, interval_text, withheld_text
from genomic_vit.evaluation.rows import Rows, make_rows
from genomic_vit.evaluation.verdict import heat_verdict


@dataclass(frozen=True, eq=False)
class Findings:
    """What a report tells.

    Args:
        config: of the benchmark.
        prepared: cohort and slabs.
        folds: (case).
        fold_names: what each fold holds out.
        arms: answers of the arms that are whole.
        results: of `compare`, with `heat_rows`.
        left_out: (arm, reason).
        warnings: what a reader must know first.
        unlabelled: cases of the manifest without any label.
        seconds: that all parts took together.
        checked: what was looked for across folds and not found, in words.
    """

    config: BenchmarkConfig
    prepared: Prepared
    folds: np.ndarray
    fold_names: tuple[str, ...]
    arms: tuple[OutOfFold, ...]
    results: pd.DataFrame
    left_out: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    unlabelled: int
    seconds: float
    checked: str = ""


def render_report(
    found: Findings,
    examples: Sequence[tuple[str, Path]],
    environment: Mapping[str, str],
    settings: str,
    *,
    is_quick: bool,
) -> str:
    """The page.

    Args:
        found: everything that was found.
        examples: (caption, PNG) of heat examples.
        environment: versions and machine.
        settings: the config as YAML.
        is_quick: whether it is a rehearsal.
    """
    config, cohort = found.config, found.prepared.cohort
    results, unit = found.results, config.unit
    both = len(set(cohort.patients.tolist())) < len(cohort.cases)  # units differ, so numbers of both are shown
    heat = {what: heat_table(results, what) for what in ("heat_in_lesion", "pointing_game")}
    page = Environment(
        loader=PackageLoader("genomic_vit.evaluation", "."),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
    ).get_template("report.html.j2")

    def told(target: str) -> set[str]:
        here = rows_of(results, ALL, target, unit)
        return set(here[here["metric"] == "auc"]["arm"])

    return page.render(
        title=f"Comparison of {len(found.arms)} arms: {', '.join(cohort.targets)}",
        version=__version__,
        made=datetime.date.today().isoformat(),
        is_quick=is_quick,
        verdicts=[
            heat_verdict(results, target, unit, len(config.seeds)).sentence
            for target in cohort.targets
            if "joint" in told(target)
        ],
        warnings=found.warnings,
        flow=describe_flow(found.prepared, found.unlabelled),
        checked=found.checked,
        targets=cohort.targets,
        folds=describe_folds(cohort, found.folds, found.fold_names),
        cohort=describe_cohort(found.prepared),
        cohort_note=cohort_note(cohort),
        both_units=both,
        parts=[_part(found, column) for column in range(len(cohort.targets))],
        unit=unit,
        other_unit=other_unit(unit),
        reference=config.reference,
        within_sites=config.site is not None,
        seeds=len(config.seeds),
        thresholds=[f"{threshold:.2f}" for threshold in TOLD],
        macro=macro_rows(results, unit, config.reference, both=both) if len(cohort.targets) > 1 else [],
        macro_withheld=withheld_text(rows_of(results, ALL, MACRO, unit)) if len(cohort.targets) > 1 else "",
        arms=[(arm.arm, ARMS[arm.arm].says) for arm in found.arms],
        left_out=found.left_out,
        learnt_from=learnt_from(config),
        subgroups=subgroup_tables(results, config.subgroups, cohort.targets, unit, config.reference),
        heat=heat,
        same_heat=same_heat_text(list(heat.values())),
        examples=[(caption, base64.b64encode(image.read_bytes()).decode()) for caption, image in examples],
        examples_arm=example_arm(found.config) or "",
        checklist=fill(
            known_answers(config, found.prepared, found.fold_names, environment, [a.arm for a in found.arms])
        ),
        spent=f"{found.seconds / 60:.1f} min",
        environment="\n".join(f"{name}: {value}" for name, value in environment.items()),
        settings=settings,
    )


def print_table(results: pd.DataFrame, config: BenchmarkConfig) -> str:
    """The main numbers for a terminal: AUC by either unit and difference of each arm, each target's verdict."""
    lines, unit = [], config.unit
    pairs = f", AUC over pairs of the same {config.site}" if config.site else ""
    for target in dict.fromkeys(results["target"]):
        here = results[(results["group"] == ALL) & (results["target"] == target) & (results["unit"] == unit)]
        auc, gaps = (here[here["metric"] == metric].set_index("arm") for metric in ("auc", "auc_difference"))
        if (here["metric"] == "withheld").any():
            lines.append(f"{target}, one row a {unit}: {withheld_text(here)}")
        if not len(auc):
            continue
        lines.append(f"{target}, one row a {unit}{pairs}:")
        other = other_unit(unit) if (here["cases"] > here["patients"]).any() else ""
        beside = rows_of(results, ALL, target, other)
        for arm, row in auc.iterrows():
            gap = gap_text(gaps.loc[arm] if arm in gaps.index else None, arm, config.reference)
            also = f", by {other} {auc_text(beside, arm)}" if other else ""
            lines.append(f"  {arm:14} AUC {interval_text(row)}{also}  {gap}")
        if target != MACRO and "joint" in auc.index:
            lines.append(heat_verdict(results, target, unit, len(config.seeds)).sentence)
    return "\n".join(lines)


def example_arm(config: BenchmarkConfig) -> str | None:
    """The arm whose heat is shown: the reference where it is a network with heat, else the first such arm."""
    for name in (config.reference, *config.arms):
        arm = ARMS[name]
        if isinstance(arm, NetworkArm) and arm.heat == "rollout" and arm.answer == "logits":
            return name
    return None


def pick_examples(arm: OutOfFold, label: np.ndarray, column: int) -> list[tuple[str, int]]:
    """(rule, case) of the cases nearest to, farthest from, and at the median distance from their label, (case)."""
    distance = np.abs(arm.mean[:, column] - label)
    order = np.argsort(distance, kind="stable")[: int((~np.isnan(distance)).sum())]
    return [("best", int(order[0])), ("median", int(order[(len(order) - 1) // 2])), ("worst", int(order[-1]))]


def _part(found: Findings, column: int) -> dict:
    config, cohort, target = found.config, found.prepared.cohort, found.prepared.cohort.targets[column]
    here = rows_of(found.results, ALL, target, config.unit)
    auc = here[here["metric"] == "auc"].reset_index()
    if not len(auc):
        return {"target": target, "withheld": withheld_text(here)}
    known, within = ~np.isnan(cohort.labels[:, column]), config.site is not None
    rows = make_rows(cohort, found.arms, found.folds, known, column, config.unit, within_folds=within)
    first = auc.iloc[0]
    both = first["cases"] > first["patients"]
    beside = rows_of(found.results, ALL, target, other_unit(config.unit)) if both else None
    drawn = [arm for arm in auc["arm"] if arm == config.reference or not _replaces_heat(arm)]
    return {
        "target": target,
        "withheld": "",
        "counts": counts_text(first),
        "both_units": both,
        "by_chance": f"{_precision_by_chance(rows):.3f}",
        "forest": _inline(forest_plot(auc, config.reference, within_folds=within)),
        "ranking": ranking_text(rows, found.fold_names),
        "ranking_table": [ranking_row(here, name, config.reference, beside) for name in auc["arm"]],
        "answer_table": [answer_row(here, name) for name in auc["arm"]],
        "spread": spread_text(here, config.reference),
        "net_benefit": net_benefit_rows(here),
        "curves": _inline(curves(rows, {name: name for name in drawn})),
        "undrawn": [name for name in auc["arm"] if name not in drawn],
    }


def _replaces_heat(arm: str) -> bool:
    """Whether its curves are left out: those of replaced heat lie on one another."""
    return isinstance(ARMS[arm], SwapArm) or arm.startswith("heat-")


def _precision_by_chance(rows: Rows) -> float:
    """Average precision where all are ranked alike: the share of positives, of sites as they are weighed."""
    return float(
        average_precision(rows.label, np.zeros(len(rows.label)), np.ones((1, len(rows.label))), rows.strata)[0]
    )


def _inline(svg: str) -> str:
    """An SVG as an image of its own, so that names inside two of them cannot meet."""
    return f'<img alt="" src="data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}">'
