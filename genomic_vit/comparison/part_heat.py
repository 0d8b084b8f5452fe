"""Where a part's heat lies: its second product, made again from the kept network where it is of an older form.

Training takes hours, looking at the held-out cases a minute. A part's scores are therefore kept under its key alone,
and heat.csv, written beside them, is complete when it has the columns that are told now.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from genomic_vit.comparison.part import HEAT, STUDY, Outcome, Part, arm_config, load_study, part_split, write_heat
from genomic_vit.comparison.study import BenchmarkError, Study
from genomic_vit.evaluation.arms import ARMS, Arm, NetworkArm
from genomic_vit.evaluation.faithfulness import COLUMNS, heat_rows
from genomic_vit.evaluation.inference import case_heats
from genomic_vit.training.machine import best_device
from genomic_vit.training.run_folder import RunFolder
from genomic_vit.training.whole import write_text


def lacks_heat(out: Path, part: Part) -> bool:
    """Whether a finished part should say where its network's heat lies, and does not."""
    return _makes_heat(ARMS[part.arm]) and read_heat(part.folder(out)) is None


def read_heat(folder: Path) -> pd.DataFrame | None:
    """Case and COLUMNS of a part; None where its heat.csv is missing or of another form."""
    if not (folder / HEAT).is_file():
        return None
    told = pd.read_csv(folder / HEAT, dtype={"case": str})
    return told if tuple(told.columns) == ("case", *COLUMNS) else None


def run_heat(out: str, part: Part) -> Outcome:
    """Make heat.csv of a finished part, and change nothing else. Raises nothing: a failure is told, its trace kept."""
    started, folder = time.monotonic(), part.folder(Path(out))
    try:
        study = load_study(out, (Path(out) / STUDY).stat().st_mtime_ns)
        run, config = RunFolder(folder), arm_config(study.config, ARMS[part.arm], part.seed)
        if not run.weights.is_file():
            raise BenchmarkError(
                f"{run.weights}: missing, so where its heat lies cannot be told. Put the file back, or delete "
                f"{folder} to train this part again."
            )
        device, index = best_device(config.device), part_split(study, part).test
        model = run.load_model(device, config)
        looked = case_heats(model, study.prepared.some(index).slabs, config.view, device)
        write_heat(study, index, [heat for _, heat in looked], folder)
        (folder / "error.txt").unlink(missing_ok=True)
        return Outcome(part, time.monotonic() - started)
    except Exception as problem:
        write_text(folder / "error.txt", traceback.format_exc())
        return Outcome(part, time.monotonic() - started, f"{type(problem).__name__}: {problem}")


def heat_results(study: Study, out: Path, arms: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Rows for results.csv of the arms whose every part says where its heat lies, and a warning for each other one."""
    rows, warnings, patient_of = [], [], {case.case: case.patient for case in study.prepared.cohort.cases}
    for arm in (name for name in arms if _makes_heat(ARMS[name])):
        parts = [Part(arm, fold, seed) for seed in study.config.seeds for fold in range(int(study.folds.max()) + 1)]
        told = {part: read_heat(part.folder(out)) for part in parts}
        lacking = [str(part) for part, table in told.items() if table is None]
        if lacking:
            warnings.append(
                f"Where the heat of {arm} lies is left out, since parts do not tell it: {'; '.join(lacking)}."
            )
            continue
        tables = [
            table.assign(patient=table["case"].map(patient_of), seed=part.seed, fold=part.fold)
            for part, table in told.items()
        ]
        rows += heat_rows(pd.concat(tables), arm, study.config.run.seed)
    return pd.DataFrame(rows), warnings


def _makes_heat(arm: Arm) -> bool:
    return isinstance(arm, NetworkArm) and arm.heat == "rollout"
