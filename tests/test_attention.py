import numpy as np
import pytest
import torch

from genomic_vit import ViT
from genomic_vit.models.attention import Attention, AttentionMap
from tests import oracles


def test_map_gives_the_softmax_matrix():
    q, k = torch.randn(2, 2, 3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    dense = AttentionMap(q, k, 0.5).dense()
    np.testing.assert_allclose(dense, oracles.softmax_attention(q.numpy(), k.numpy(), 0.5), atol=1e-14)
    torch.testing.assert_close(AttentionMap(q, k, 0.5).rows(slice(1, 3)), dense[:, :, 1:3], rtol=0, atol=1e-15)


def test_tokens_are_what_torchs_own_attention_gives():
    torch.manual_seed(0)
    ours = Attention(12, heads=3).double()
    theirs = torch.nn.MultiheadAttention(12, 3, batch_first=True).double()
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = ours.qkv.weight.data, ours.qkv.bias.data
    theirs.out_proj.load_state_dict(ours.project.state_dict())
    tokens = torch.randn(2, 7, 12, dtype=torch.float64)
    out, attention = ours(tokens)
    wanted, weights = theirs(tokens, tokens, tokens, average_attn_weights=False)
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-10)
    torch.testing.assert_close(attention.dense(), weights, rtol=0, atol=1e-10)


def test_the_map_is_the_attention_that_mixed_the_values():
    torch.manual_seed(0)
    layer = Attention(8, heads=2).double()
    tokens = torch.randn(1, 6, 8, dtype=torch.float64)
    out, attention = layer(tokens)
    values = layer.qkv(tokens)[..., 16:].view(1, 6, 2, 4).transpose(1, 2)
    mixed = (attention.dense() @ values).transpose(1, 2).reshape(1, 6, 8)
    torch.testing.assert_close(out, layer.project(mixed), rtol=0, atol=1e-12)


def test_low_precision_maps_are_made_in_float32():
    q, k = torch.randn(2, 1, 1, 4, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert AttentionMap(q, k, 1.0).dense().dtype == torch.float32


def test_a_way_that_there_is_not_is_refused_when_a_vit_is_made(unchecked_types):
    with pytest.raises(ValueError, match="attention is 'strem'; pass one of auto, dense, streamed"):
        ViT((8, 8), patch_px=4, width=8, depth=1, heads=2, attention="strem")


def test_width_must_divide_into_heads():
    with pytest.raises(ValueError, match="width 10 must be a multiple of heads 3"):
        Attention(10, heads=3)


@pytest.mark.parametrize("dropout", [-0.1, 1.5, float("nan")])
def test_dropout_must_be_a_share(dropout):
    with pytest.raises(ValueError, match=f"dropout is {dropout}; pass a share from 0 to 1"):
        ViT((8, 8), patch_px=4, width=8, depth=1, heads=2, attention_dropout=dropout)
