import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genomic_vit import attention_rollout
from genomic_vit.models.attention import AttentionMap
from tests import oracles


def random_attention(seed: int, layers: int, images: int, heads: int, tokens: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (images, heads, tokens, tokens)
    return [(2 * torch.randn(shape, generator=generator, dtype=torch.float64)).softmax(-1) for _ in range(layers)]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    layers=st.integers(1, 5),
    images=st.integers(1, 3),
    heads=st.integers(1, 4),
    patches=st.integers(1, 12),
    prefix=st.integers(1, 4),
    residual=st.floats(0.05, 0.95),
)
def test_equals_the_full_matrix_oracle(seed, layers, images, heads, patches, prefix, residual):
    attention = random_attention(seed, layers, images, heads, prefix + patches)
    row = attention_rollout(attention, residual=residual, prefix_tokens=prefix)
    wanted = oracles.rollout([layer.numpy() for layer in attention], residual)[:, 0, prefix:]
    np.testing.assert_allclose(row, wanted, rtol=0, atol=1e-12)


def test_two_tokens_by_hand():
    first = torch.tensor([[[[0.5, 0.5], [0.2, 0.8]]]], dtype=torch.float64)
    second = torch.tensor([[[[0.4, 0.6], [0.9, 0.1]]]], dtype=torch.float64)
    # CLS row of the second with half the identity: (0.7, 0.3); times the first with half: (.75 .25; .1 .9)
    row = attention_rollout([first, second], residual=0.5)
    torch.testing.assert_close(row, torch.tensor([[0.7 * 0.25 + 0.3 * 0.9]], dtype=torch.float64))


def test_maps_and_matrices_give_the_same():
    q, k = torch.randn(2, 3, 2, 2, 9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    maps = [AttentionMap(q[layer], k[layer], 0.5) for layer in range(3)]
    torch.testing.assert_close(
        attention_rollout(maps), attention_rollout([m.dense() for m in maps]), rtol=0, atol=1e-15
    )


def test_gradient_equals_finite_differences():
    q, k = torch.randn(2, 3, 2, 2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def through(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return attention_rollout([AttentionMap(q[layer], k[layer], 0.6) for layer in range(3)], residual=0.4)

    assert torch.autograd.gradcheck(through, (q.requires_grad_(), k.requires_grad_()))


def test_images_of_a_batch_do_not_influence_one_another():
    attention = random_attention(3, 4, 3, 2, 8)
    together = attention_rollout(attention)
    alone = torch.cat([attention_rollout([layer[i : i + 1] for layer in attention]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-15)


def test_permuting_patches_permutes_the_map():
    attention = random_attention(4, 3, 1, 2, 7)
    order = torch.tensor([0, 3, 1, 6, 2, 5, 4])  # CLS stays
    moved = attention_rollout([layer[:, :, order][:, :, :, order] for layer in attention])
    torch.testing.assert_close(moved, attention_rollout(attention)[:, order[1:] - 1])


def test_row_of_the_whole_rollout_sums_to_one():
    attention = random_attention(5, 4, 2, 3, 6)
    rest = oracles.rollout([layer.numpy() for layer in attention], 0.5)[:, 0, :1].sum(1)
    np.testing.assert_allclose(attention_rollout(attention).sum(1) + rest, 1, atol=1e-12)


def test_low_precision_accumulates_in_float32():
    attention = [layer.bfloat16() for layer in random_attention(6, 3, 1, 1, 6)]
    assert attention_rollout(attention).dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attention": []}, "no layers were given"),
        ({"residual": 0.0}, "residual is 0.0; it must be between 0 and 1"),
        ({"residual": 1.5}, "residual is 1.5"),
        ({"prefix_tokens": 0}, "prefix_tokens is 0 with 4 tokens"),
        ({"prefix_tokens": 4}, "pass the number of CLS and registers, 1 to 3"),
        ({"attention": [torch.ones(1, 1, 4, 4), torch.ones(1, 1, 5, 5)]}, "layers differ in"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    given = {"attention": [torch.full((1, 1, 4, 4), 0.25)]} | arguments
    with pytest.raises(ValueError, match=message):
        attention_rollout(given.pop("attention"), **given)
