"""Losses by hand arithmetic."""

import math

import torch
import torch.nn.functional as F

from genomic_vit.training.losses import heat_on_lesion, masked_bce

NAN = float("nan")


def test_a_missing_label_weighs_nothing():
    logits = torch.tensor([[0.3, -1.0], [2.0, 0.5]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1.0, NAN], [0.0, 1.0]], dtype=torch.float64)
    loss = masked_bce(logits, labels, torch.tensor([1.0, 3.0], dtype=torch.float64))
    parts = [F.softplus(-logits[0, 0]), F.softplus(logits[1, 0]), 3 * F.softplus(-logits[1, 1])]
    torch.testing.assert_close(loss, sum(parts) / 3, atol=1e-12, rtol=0)
    loss.backward()
    assert logits.grad[0, 1] == 0 and (logits.grad[[0, 1, 1], [0, 0, 1]] != 0).all()


def test_no_label_at_all_is_no_loss():
    logits = torch.randn(3, 1, requires_grad=True)
    loss = masked_bce(logits, torch.full((3, 1), NAN), torch.ones(1))
    loss.backward()
    assert loss == 0 and (logits.grad == 0).all()


def test_heat_on_lesion_is_minus_log_of_the_share():
    heat = torch.ones(2, 1, 2, 2)
    lesion = torch.zeros(2, 1, 2, 2)
    lesion[0, 0, 0, 0] = 1  # a quarter of the heat; the second image shows no lesion
    assert math.isclose(float(heat_on_lesion(heat, lesion)), math.log(4), rel_tol=1e-6)
