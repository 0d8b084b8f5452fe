"""The parts of a benchmark: which there are, those not kept yet run wherever they run, and how long that will take."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import torch

from genomic_vit.comparison.part import Outcome, Part, is_done, run_part
from genomic_vit.comparison.part_heat import lacks_heat, run_heat
from genomic_vit.comparison.study import Study
from genomic_vit.data.workers import Engine, Lost, run_each
from genomic_vit.evaluation.arms import ARMS, SwapArm, TableArm, trained_for

COST = {"staged": 1.2, "vit": 0.4, "cnn": 0.5}  # of a mode's part, in the time of joint; only for the time left
log = logging.getLogger(__name__)


def list_parts(study: Study, left_out: dict[str, str]) -> list[Part]:
    """All parts, seed by seed and fold by fold, so that whole folds are there early; swaps come with their network."""
    trained = dict.fromkeys(trained_for(ARMS[name]) for name in study.config.arms if name not in left_out)
    folds = int(study.folds.max()) + 1
    return [Part(arm, fold, seed) for seed in study.config.seeds for fold in range(folds) for arm in trained]


def run_parts(study: Study, parts: Sequence[Part], out: Path, engine: Engine, jobs: int) -> list[Outcome]:
    """Run the parts that are not done; tells each as it ends, with the time left. Returns those that failed."""
    left = [part for part in parts if not is_done(out, study, part)]
    if len(left) < len(parts):
        log.info("%d of %d parts are kept from before", len(parts) - len(left), len(parts))
    older = [part for part in left if (part.folder(out) / "done.json").is_file()]
    if older:
        log.warning(
            "%d parts in %s were made with other settings or data, and are replaced one by one; to keep them, stop now "
            "and give another --out",
            len(older),
            out,
        )
    untold = [part for part in parts if part not in left and lacks_heat(out, part)]
    if untold:
        log.info("%d of them do not tell where the heat lies: asked again, nothing of them is trained", len(untold))
    return _run_all(run_part, left, out, engine, jobs) + _run_all(run_heat, untold, out, engine, jobs)


def _run_all(
    run: Callable[[str, Part], Outcome], left: Sequence[Part], out: Path, engine: Engine, jobs: int
) -> list[Outcome]:
    workers = 1 if jobs == 1 else min(len(left) or 1, joblib.cpu_count() if jobs < 1 else jobs)
    clock, failed = Clock(left, workers), []
    work = run_each(partial(_run_on_share, str(out), workers, run=run), left, engine=engine, jobs=jobs, folder=out)
    for done, (index, result) in enumerate(work, start=1):
        outcome = Outcome(left[index], 0.0, result.reason) if isinstance(result, Lost) else result
        clock.tick(outcome)
        said = f"FAILED: {outcome.reason}" if outcome.reason else f"{outcome.seconds:.0f} s"
        log.info("[%d of %d] %s: %s; %s", done, len(left), outcome.part, said, clock.left())
        if outcome.reason:
            failed.append(outcome)
    return failed


class Clock:
    """How long the parts that are left will take, from those that were done.

    Args:
        parts: to do.
        workers: at the same time.
    """

    def __init__(self, parts: Sequence[Part], workers: int) -> None:
        self._open = list(parts)
        self._workers = workers
        self._took: dict[str, list[float]] = defaultdict(list)

    def tick(self, outcome: Outcome) -> None:
        """A part ended."""
        self._open.remove(outcome.part)
        if outcome.reason is None:
            self._took[outcome.part.arm].append(outcome.seconds)

    def left_s(self) -> float | None:
        """Seconds left; None while no network has been timed that could stand for the others."""
        networks = [(_cost(arm), np.mean(took)) for arm, took in self._took.items() if _is_network(arm)]
        total = 0.0
        for part in self._open:
            if part.arm in self._took:
                total += float(np.mean(self._took[part.arm]))
            elif _is_network(part.arm):
                if not networks:
                    return None
                total += _cost(part.arm) * float(np.mean([seconds / cost for cost, seconds in networks]))
        return total / self._workers

    def left(self) -> str:
        """The same in words."""
        seconds = self.left_s()
        if seconds is None:
            return "time left not known yet"
        return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"


def _run_on_share(out: str, workers: int, part: Part, run: Callable[[str, Part], Outcome] = run_part) -> Outcome:
    """A part on this worker's share of the cores."""
    torch.set_num_threads(min(torch.get_num_threads(), max(1, joblib.cpu_count() // workers)))
    return run(out, part)


def _cost(arm: str) -> float:
    return COST.get(ARMS[arm].mode, 1.0)


def _is_network(arm: str) -> bool:
    return not isinstance(ARMS[arm], TableArm | SwapArm)
