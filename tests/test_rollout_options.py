"""What the options do: entries that are dropped, and shares of the residual however they are given."""

import numpy as np
import pytest
import torch

from genomic_vit import attention_rollout
from tests.attentions import random_attention


@pytest.mark.parametrize("discard", [0.0, 0.3])
def test_images_do_not_influence_one_another_when_entries_are_dropped(discard):
    attention = random_attention(9, 3, 3, 2, 8)
    attention[1][0] = torch.eye(8)  # one image unlike the others
    together = attention_rollout(attention, discard=discard, fusion="max")
    alone = [attention_rollout([a[i : i + 1] for a in attention], discard=discard, fusion="max") for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-15)


def test_dropping_spares_cls_and_ties_stay():
    even = [torch.full((1, 1, 5, 5), 0.2, dtype=torch.float64)] * 2
    torch.testing.assert_close(attention_rollout(even, discard=0.9), attention_rollout(even))
    away = torch.full((1, 1, 4, 4), 1 / 3, dtype=torch.float64)
    away[..., 0, :] = torch.tensor([0.97, 0.01, 0.01, 0.01])  # CLS's row is tiny, and stays
    away[..., :, 0], away[..., 1:, 1:] = 0.1, 0.3
    away[..., 0, 0] = 0.97
    torch.testing.assert_close(attention_rollout([away], discard=0.99), torch.full((1, 3), 0.005, dtype=torch.float64))


def test_a_row_that_loses_everything_keeps_its_share():
    apart = torch.eye(3, dtype=torch.float64)[None, None].clone()
    apart[0, 0, 2] = torch.tensor([0.4, 0.35, 0.25])
    row = attention_rollout([apart] * 2, discard=0.9, prefix_tokens=0, query="mean")
    torch.testing.assert_close(row, torch.full((1, 3), 1 / 3, dtype=torch.float64))


@pytest.mark.parametrize(
    "residual", [np.array([0.3, 0.4, 0.6]), (c for c in (0.3, 0.4, 0.6)), torch.tensor([0.3, 0.4, 0.6]).double()]
)
def test_shares_may_be_given_in_any_row(residual):
    attention = random_attention(2, 3, 1, 2, 5)
    torch.testing.assert_close(
        attention_rollout(attention, residual=residual), attention_rollout(attention, residual=[0.3, 0.4, 0.6])
    )
