"""A residual that is learnt moves in the stages that learn the rollout, and stays bit for bit in the others."""

import pytest
import torch

from genomic_vit.data.prepare import Cases
from genomic_vit.models.genomic_vit import build_model
from genomic_vit.training.fit import fit
from genomic_vit.training.stages import schedule
from tests.benchmark_cohort import bright_cohort, small_run

COHORT = bright_cohort(8)
CASES = Cases(COHORT.slabs, COHORT.cohort.labels, [f"P{number}" for number in range(8)])


@pytest.mark.parametrize(
    ("mode", "stage", "moves"), [("joint", 0, True), ("staged", 0, False), ("staged", 1, True), ("vit", 0, False)]
)
def test_the_residual_moves_where_the_stage_learns_the_rollout(mode, stage, moves, tmp_path):
    training = {"epochs": 1, "batch_size": 4, "average": 0.0, "lesion_weight": 0.5}
    config = small_run(mode=mode, rollout={"residual": 0.3, "learn_residual": True}, training=training)
    torch.manual_seed(0)
    model = build_model(config)
    before = model.rollout.logit.detach().clone()
    fit(model, CASES, CASES, config, tmp_path, stages=schedule(mode, config.training)[stage : stage + 1])
    after = model.rollout.logit.detach()
    assert (after != before).all() if moves else torch.equal(after, before)
    assert ((model.rollout.shares() > 1e-4) & (model.rollout.shares() < 1 - 1e-4)).all()
