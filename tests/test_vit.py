import pytest
import torch
from monai.networks.nets import ViT as MonaiViT
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


def monai_twin(vit: ViT, image_px: tuple[int, int], heads: int) -> MonaiViT:
    """MONAI's ViT with the same weights; it keeps its attention when asked to."""
    width, hidden = vit.norm.normalized_shape[0], vit.blocks[0].mlp[0].out_features
    twin = MonaiViT(
        vit.embed.in_channels,
        image_px,
        vit.patch_px,
        hidden_size=width,
        mlp_dim=hidden,
        num_layers=len(vit.blocks),
        num_heads=heads,
        classification=True,
        num_classes=vit.head.out_features,
        spatial_dims=2,
        post_activation=None,
        qkv_bias=True,
        save_attn=True,
    ).to(vit.prefix.dtype)
    for module in twin.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6  # MONAI has 1e-5
    twin.patch_embedding.patch_embeddings.load_state_dict(vit.embed.state_dict())
    twin.patch_embedding.position_embeddings.data = vit.position.data[None]
    twin.cls_token.data = vit.prefix.data[None, :1]
    for theirs, ours in zip(twin.blocks, vit.blocks, strict=True):
        theirs.attn.qkv.load_state_dict(ours.attention.qkv.state_dict())
        theirs.attn.out_proj.load_state_dict(ours.attention.project.state_dict())
        theirs.norm1.load_state_dict(ours.norm1.state_dict())
        theirs.norm2.load_state_dict(ours.norm2.state_dict())
        theirs.mlp.linear1.load_state_dict(ours.mlp[0].state_dict())
        theirs.mlp.linear2.load_state_dict(ours.mlp[3].state_dict())
    twin.norm.load_state_dict(vit.norm.state_dict())
    twin.classification_head.load_state_dict(vit.head.state_dict())
    return twin.eval()


SHAPES = pytest.mark.parametrize(("image_px", "registers"), [((16, 16), 0), ((16, 24), 0), ((24, 8), 3)])


def sharp_vit(image_px, registers, dtype):
    """A ViT whose attention is far from uniform, so that a wrong one shows."""
    torch.manual_seed(0)
    vit = ViT(image_px, patch_px=4, channels=2, targets=3, width=12, depth=3, heads=3, registers=registers)
    with torch.no_grad():
        for block in vit.blocks:
            block.attention.qkv.weight.mul_(4)
            for norm in (block.norm1, block.norm2):
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.uniform_(-0.5, 0.5)
    return vit.to(dtype).eval()


@SHAPES
def test_equals_torchs_encoder_with_the_same_weights(image_px, registers):
    vit = sharp_vit(image_px, registers, torch.float64)
    image = torch.randn(2, 2, *image_px, dtype=torch.float64)
    output = vit(image)
    patches = torch.nn.functional.unfold(image, 4, stride=4).transpose(1, 2)  # the embedding by another way
    patches = patches @ vit.embed.weight.flatten(1).T + vit.embed.bias + vit.position
    tokens = torch.cat([vit.prefix.expand(2, -1, -1), patches], dim=1)
    twin = torch_twin(vit, heads=3)
    for theirs, ours in zip(twin.layers, output.attention, strict=True):
        x = theirs.norm1(tokens)
        _, weights = theirs.self_attn(x, x, x, average_attn_weights=False)  # (b h n n)
        torch.testing.assert_close(ours.dense(), weights, rtol=0, atol=1e-10)
        tokens = theirs(tokens)
    wanted = twin.norm(tokens)
    torch.testing.assert_close(output.tokens, wanted, rtol=0, atol=1e-10)
    torch.testing.assert_close(output.logits, vit.head(wanted[:, 0]), rtol=0, atol=1e-10)


@SHAPES
def test_equals_monais_vit_in_float32_attention_and_logits(image_px, registers):
    vit = sharp_vit(image_px, registers, torch.float32)
    twin = monai_twin(vit, image_px, heads=3)
    image = torch.randn(2, 2, *image_px)
    output = vit(image)
    if registers:  # MONAI's ViT has none: they are put between its CLS and its patches, and its own parts go on
        tokens = torch.cat([vit.prefix.expand(2, -1, -1), twin.patch_embedding(image)], dim=1)
        for block in twin.blocks:
            tokens = block(tokens)
        logits = twin.classification_head(twin.norm(tokens)[:, 0])
    else:
        logits, _ = twin(image)
    torch.testing.assert_close(output.logits, logits, rtol=0, atol=1e-5)
    for ours, theirs in zip(output.attention, twin.blocks, strict=True):
        torch.testing.assert_close(ours.dense(), theirs.attn.att_mat, rtol=0, atol=1e-5)
        assert theirs.attn.att_mat.std() > 0.02, "uniform attention would prove little"


def test_layer_scale_is_a_factor_on_each_residual_branch():
    torch.manual_seed(0)
    scaled = ViT((8, 8), patch_px=4, width=8, depth=2, heads=2, layer_scale=0.5).double().eval()
    plain = ViT((8, 8), patch_px=4, width=8, depth=2, heads=2).double().eval()
    plain.load_state_dict({name: value for name, value in scaled.state_dict().items() if "gamma" not in name})
    with torch.no_grad():  # by hand: the same as scaling the last linear of each branch
        for ours, theirs in zip(scaled.blocks, plain.blocks, strict=True):
            assert (ours.scale1.gamma == 0.5).all() and (ours.scale2.gamma == 0.5).all()
            ours.scale1.gamma.uniform_(0.1, 2)
            ours.scale2.gamma.uniform_(0.1, 2)
            for gamma, linear in (
                (ours.scale1.gamma, theirs.attention.project),
                (ours.scale2.gamma, theirs.mlp[3]),
            ):
                linear.weight.mul_(gamma[:, None])
                linear.bias.mul_(gamma)
    image = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(scaled(image).tokens, plain(image).tokens, rtol=0, atol=1e-12)


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


def test_positions_of_a_single_column_run_down_it():
    vit = ViT((16, 16), patch_px=4, width=8, depth=1, heads=2).double()
    vit.position.data = torch.arange(4.0, dtype=torch.float64).repeat_interleave(4)[:, None].expand(16, 8).clone()
    column = vit.positions((8, 1))[:, 0]
    torch.testing.assert_close(column, vit.positions((8, 4)).reshape(8, 4, 8)[:, 0, 0], rtol=0, atol=1e-12)


def test_image_that_is_no_whole_number_of_patches_is_refused():
    with pytest.raises(ValueError, match="image of 18 × 16 px does not divide into patches of 4 px"):
        ViT((18, 16), patch_px=4)
