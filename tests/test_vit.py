import pytest
import torch
from torch import nn

from genomic_vit import ViT


def torch_twin(vit: ViT, heads: int) -> nn.TransformerEncoder:
    """torch's own encoder with the same weights (pre-norm, exact GELU)."""
    width, hidden = vit.norm.normalized_shape[0], vit.blocks[0].mlp[0].out_features
    layer = nn.TransformerEncoderLayer(
        width, heads, hidden, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    twin = nn.TransformerEncoder(layer, len(vit.blocks), nn.LayerNorm(width, eps=1e-6), enable_nested_tensor=False)
    for theirs, ours in zip(twin.layers, vit.blocks, strict=True):
        theirs.self_attn.in_proj_weight.data = ours.attention.qkv.weight.data
        theirs.self_attn.in_proj_bias.data = ours.attention.qkv.bias.data
        theirs.self_attn.out_proj.load_state_dict(ours.attention.project.state_dict())
        theirs.norm1.load_state_dict(ours.norm1.state_dict())
        theirs.norm2.load_state_dict(ours.norm2.state_dict())
        theirs.linear1.load_state_dict(ours.mlp[0].state_dict())
        theirs.linear2.load_state_dict(ours.mlp[3].state_dict())
    twin.norm.load_state_dict(vit.norm.state_dict())
    return twin.double()


@pytest.mark.parametrize(("image_px", "registers"), [((16, 16), 0), ((16, 24), 0), ((24, 8), 3)])
def test_equals_torchs_encoder_with_the_same_weights(image_px, registers):
    torch.manual_seed(0)
    vit = ViT(image_px, patch_px=4, channels=2, targets=3, width=12, depth=3, heads=3, registers=registers).double()
    image = torch.randn(2, 2, *image_px, dtype=torch.float64)
    output = vit(image)
    patches = torch.nn.functional.unfold(image, 4, stride=4).transpose(1, 2)  # the embedding by another way
    patches = patches @ vit.embed.weight.flatten(1).T + vit.embed.bias + vit.position
    tokens = torch.cat([vit.prefix.expand(2, -1, -1), patches], dim=1)
    wanted = torch_twin(vit, heads=3)(tokens)
    torch.testing.assert_close(output.tokens, wanted, rtol=0, atol=1e-10)
    torch.testing.assert_close(output.logits, vit.head(wanted[:, 0]), rtol=0, atol=1e-10)


def test_every_layers_attention_comes_out_on_the_graph():
    vit = ViT((8, 12), patch_px=4, width=8, depth=4, heads=2, registers=2)
    attention = vit(torch.randn(3, 1, 8, 12)).attention
    assert len(attention) == 4
    for layer in attention:
        dense = layer.dense()
        assert dense.shape == (3, 2, 1 + 2 + 6, 1 + 2 + 6)
        assert dense.requires_grad
        torch.testing.assert_close(dense.sum(-1), torch.ones(3, 2, 9))


def test_position_embedding_follows_another_image_size():
    vit = ViT((16, 16), patch_px=4, width=8, depth=1, heads=2).double()
    ramp = torch.arange(4.0, dtype=torch.float64)
    vit.position.data = ramp.repeat_interleave(4)[:, None].expand(16, 8).clone()  # holds its own row
    finer = vit.positions((8, 4)).reshape(8, 4, 8)
    assert (finer[1:] > finer[:-1]).all()  # still runs down the rows
    torch.testing.assert_close(finer[:, 0], finer[:, 3])  # and is the same along each
    torch.testing.assert_close(finer[3:5].mean(), torch.tensor(1.5, dtype=torch.float64))  # middle stays the middle
    assert vit(torch.randn(1, 1, 32, 16, dtype=torch.float64)).attention[0].tokens == 33


def test_image_that_is_no_whole_number_of_patches_is_refused():
    with pytest.raises(ValueError, match="image of 18 × 16 px does not divide into patches of 4 px"):
        ViT((18, 16), patch_px=4)
