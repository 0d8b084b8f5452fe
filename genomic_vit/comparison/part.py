"""One part of a benchmark: one arm, one fold held out, one seed; kept on disk, and not run again."""

from __future__ import annotations

import json
import logging
import shutil
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
import yaml

from genomic_vit.cohort.folds import Split, hold_out
from genomic_vit.comparison.part_key import part_key
from genomic_vit.comparison.study import Study
from genomic_vit.config import RunConfig
from genomic_vit.evaluation.arms import ARMS, NetworkArm, SwapArm, TableArm
from genomic_vit.evaluation.baselines import fit_and_score
from genomic_vit.evaluation.faithfulness import heat_on_lesions
from genomic_vit.evaluation.given_heat import given_heat
from genomic_vit.evaluation.inference import case_heats, case_probabilities, stack_heat
from genomic_vit.evaluation.out_of_fold import INNER, OUTER
from genomic_vit.evaluation.plan import BenchmarkConfig
from genomic_vit.models.genomic_vit import GenomicViT, build_model
from genomic_vit.models.heat_sources import HEAT_SOURCES
from genomic_vit.models.pretrained import load_pretrained
from genomic_vit.training.environment import environment
from genomic_vit.training.fit import fit
from genomic_vit.training.machine import best_device
from genomic_vit.training.run_folder import RunFolder, to_tree
from genomic_vit.training.stages import schedule
from genomic_vit.training.whole import write_text, written_whole

STUDY, HEAT = "study.joblib", "heat.csv"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """One arm, one fold held out, one seed."""

    arm: str
    fold: int
    seed: int

    def __str__(self) -> str:
        return f"{self.arm}, fold {self.fold}, seed {self.seed}"

    def key(self, study: Study) -> str:
        """Hash of everything that its numbers depend on."""
        arm = ARMS[self.arm]
        config = arm_config(study.config, arm, self.seed) if isinstance(arm, NetworkArm) else study.config.run
        return part_key(study, arm, config, self.fold, self.seed)

    def folder(self, out: Path) -> Path:
        """Where it is kept."""
        return out / "parts" / self.arm / f"seed_{self.seed}_fold_{self.fold}"


@dataclass(frozen=True)
class Outcome:
    """How a part ended; `reason` says why it failed, None where it did not."""

    part: Part
    seconds: float
    reason: str | None = None


def is_done(out: Path, study: Study, part: Part) -> bool:
    """Whether the part was finished with the same settings on the same data."""
    done = part.folder(out) / "done.json"
    return done.is_file() and json.loads(done.read_text(encoding="utf-8"))["key"] == part.key(study)


def run_part(out: str, part: Part) -> Outcome:
    """Run one part and keep it below `out`, where STUDY lies. Raises nothing: a failure is told, its trace kept."""
    started = time.monotonic()
    folder = part.folder(Path(out))
    try:
        study = load_study(out, (Path(out) / STUDY).stat().st_mtime_ns)
        key = part.key(study)
        marker = folder / "key.txt"
        if folder.exists() and (not marker.is_file() or marker.read_text(encoding="utf-8").strip() != key):
            shutil.rmtree(folder)  # of other settings: nothing in it can be continued
        folder.mkdir(parents=True, exist_ok=True)
        write_text(marker, key)
        arm = ARMS[part.arm]
        if isinstance(arm, TableArm):
            scores = _table_scores(study, arm, part)
        else:
            scores = _network_scores(study, arm, part, folder)
        scores.to_csv(folder / "scores.csv", index=False)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        (folder / "error.txt").unlink(missing_ok=True)
        seconds = time.monotonic() - started
        told = {"key": key, "seconds": round(seconds, 1), "environment": environment()}
        write_text(folder / "done.json", json.dumps(told))
        return Outcome(part, seconds)
    except Exception as problem:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "error.txt", traceback.format_exc())
        return Outcome(part, time.monotonic() - started, f"{type(problem).__name__}: {problem}")


@lru_cache(maxsize=1)
def load_study(out: str, _written: int) -> Study:
    """The study below `out`, read once by each process."""
    return joblib.load(Path(out) / STUDY)


def arm_config(config: BenchmarkConfig, arm: NetworkArm, seed: int) -> RunConfig:
    """Settings of a network's training in one arm."""
    weight = config.lesion_weight if arm.rewards_lesion else 0.0
    mode = arm.mode if arm.mode in ("joint", "staged") else "joint"
    return replace(config.run, mode=mode, seed=seed, training=replace(config.run.training, lesion_weight=weight))


def part_split(study: Study, part: Part) -> Split:
    """Cases to learn from, to choose by, and to test, in a fold and seed; arms without a network learn from both."""
    return hold_out(study.prepared.cohort, study.folds, part.fold, study.config.run.split.validation, part.seed)


def _network_scores(study: Study, arm: NetworkArm, part: Part, folder: Path) -> pd.DataFrame:
    config, split = arm_config(study.config, arm, part.seed), part_split(study, part)
    torch.manual_seed(part.seed)
    model = build_model(config, heat_channels=0 if arm.heat == "none" else 1)
    if config.model.pretrained is not None:
        log.info("%s", load_pretrained(model.vit, config.model.pretrained))
    stages = [replace(stage, heat=HEAT_SOURCES[arm.heat]) for stage in schedule(arm.mode, config.training)]
    train, validation = (study.prepared.some(index) for index in (split.train, split.validation))
    fit(model, train, validation, config, folder, stages=stages)
    run = RunFolder(folder)
    run.save_model(model)
    if arm.heat == "rollout" and arm.answer == "logits":  # predict reads such a folder as any run's
        write_text(run.config, yaml.safe_dump(to_tree(config), sort_keys=False))
    device = best_device(config.device)
    model.to(device).eval()
    frames = [_asked(study, model, device, arm, arm, split.validation, part)]
    frames[0]["part"] = INNER
    heated = _heated(study, model, device, arm, split.test, folder) if arm.heat == "rollout" else None
    alone = heated is None or arm.answer == "vit_logits"  # heat came with the CNN's answer only
    frames.append(_asked(study, model, device, arm, arm, split.test, part) if alone else heated)
    if arm.name == "joint":
        swaps = [other for other in ARMS.values() if isinstance(other, SwapArm)]
        frames += [_asked(study, model, device, arm, swap, split.test, part) for swap in swaps]
    return pd.concat(frames, ignore_index=True)


def _asked(
    study: Study,
    model: GenomicViT,
    device: torch.device,
    trained: NetworkArm,
    arm: NetworkArm | SwapArm,
    index: np.ndarray,
    part: Part,
) -> pd.DataFrame:
    """Scores of some cases with the heat that `arm` gives."""
    slabs, view, cohort = study.prepared.some(index).slabs, study.config.run.view, study.prepared.cohort
    given = given_heat(
        arm.heat, slabs, cohort.patients[index], view, part.seed, lambda: stack_heat(model, slabs, view, device)
    )
    scores = case_probabilities(model, slabs, view, device, given=given, answer=trained.answer)
    return _frame(study, arm.name, OUTER, index, scores)


def _table_scores(study: Study, arm: TableArm, part: Part) -> pd.DataFrame:
    split, cohort = part_split(study, part), study.prepared.cohort
    learning = np.sort(np.concatenate([split.train, split.validation]))
    columns = [
        fit_and_score(
            arm.estimator, study.tables[arm.features], label, cohort.patients, learning, split.test, part.seed
        )
        for label in cohort.labels.T
    ]
    inner, tested = (np.stack(part_scores, axis=1) for part_scores in zip(*columns, strict=True))
    return pd.concat(
        [_frame(study, arm.name, INNER, learning, inner), _frame(study, arm.name, OUTER, split.test, tested)],
        ignore_index=True,
    )


def _frame(study: Study, arm: str, part: str, index: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    cohort = study.prepared.cohort
    frame = pd.DataFrame({"arm": arm, "part": part, "case": [cohort.cases[i].case for i in index]})
    for column, target in enumerate(cohort.targets):
        frame[target] = scores[:, column]
    return frame


def _heated(
    study: Study, model: GenomicViT, device: torch.device, arm: NetworkArm, index: np.ndarray, folder: Path
) -> pd.DataFrame:
    """Scores of the tested cases with the network's own heat, which is told in heat.csv."""
    looked = case_heats(model, study.prepared.some(index).slabs, study.config.run.view, device)
    scores, heats = zip(*looked, strict=True)
    write_heat(study, index, heats, folder)
    return _frame(study, arm.name, OUTER, index, np.array(scores))


def write_heat(study: Study, index: np.ndarray, heats: Sequence[np.ndarray], folder: Path) -> None:
    """heat.csv: how a network's heat of the tested cases, each (stack 9 y x), lies on their lesions."""
    cohort, slabs = study.prepared.cohort, study.prepared.some(index).slabs
    lesions, stride = [slab.lesion for slab in slabs], study.config.run.view.eval_stride
    table = heat_on_lesions(heats, lesions, cohort.patients[index], stride)
    table.insert(0, "case", [cohort.cases[i].case for i in index])
    with written_whole(folder / HEAT) as part:
        table.to_csv(part, index=False)
