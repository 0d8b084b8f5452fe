import numpy as np
import pytest
import torch
from einops import rearrange

from genomic_vit import ViT
from genomic_vit.config_tree import from_tree
from genomic_vit.models import blocks
from genomic_vit.models.attention import AttentionMap
from genomic_vit.models.genomic_vit import build_model
from genomic_vit.models.gradient_rollout import gradient_rollout
from tests import oracles


def small_vit(registers: int = 1, targets: int = 2) -> ViT:
    torch.manual_seed(0)
    return ViT((8, 12), patch_px=4, width=12, depth=3, heads=3, registers=registers, targets=targets).double().eval()


def dense_twin(vit: ViT, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits with every attention matrix a node of the graph, by plain products."""
    patches = rearrange(vit.embed(image), "b d r c -> b (r c) d") + vit.position
    tokens = torch.cat([vit.prefix.expand(len(image), -1, -1), patches], dim=1)
    matrices = []
    for block in vit.blocks:
        qkv = block.attention.qkv(block.norm1(tokens))
        q, k, v = rearrange(qkv, "b n (three h e) -> three b h n e", three=3, h=3)
        matrices.append((q @ k.transpose(-2, -1) * block.attention.scale).softmax(-1))
        tokens = tokens + block.attention.project(rearrange(matrices[-1] @ v, "b h n e -> b n (h e)"))
        tokens = tokens + block.mlp(block.norm2(tokens))
    return vit.head(vit.norm(tokens)[:, 0]), matrices


def test_equals_the_full_product_of_the_paper(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 3)
    vit, image = small_vit(), torch.randn(3, 1, 8, 12, dtype=torch.float64)
    output = vit(image)
    found = gradient_rollout(output.logits, output.attention, prefix_tokens=2)
    assert found.shape == (3, 2, 6) and (found >= 0).all() and found.max() > 0
    logits, matrices = dense_twin(vit, image)
    torch.testing.assert_close(logits, output.logits, rtol=0, atol=1e-12)
    for target in range(2):
        gradients = torch.autograd.grad(logits[:, target].sum(), matrices, retain_graph=True)
        wanted = oracles.gradient_rollout([m.detach().numpy() for m in matrices], [g.numpy() for g in gradients])
        np.testing.assert_allclose(found[:, target], wanted[:, 0, 2:], rtol=0, atol=1e-12)


def test_images_do_not_influence_one_another_and_targets_differ():
    vit, image = small_vit(), torch.randn(3, 1, 8, 12, dtype=torch.float64)
    together = gradient_rollout(*vit(image)[:2], prefix_tokens=2)
    alone = torch.cat([gradient_rollout(*vit(image[i : i + 1])[:2], prefix_tokens=2) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-14)
    assert not torch.allclose(together[:, 0], together[:, 1])


def test_what_gives_no_gradient_is_refused():
    vit, image = small_vit(), torch.randn(1, 1, 8, 12, dtype=torch.float64)
    logits, maps, _ = vit(image)
    with pytest.raises(ValueError, match=r"prefix_tokens is 8 with 8 tokens; pass 1 to 7"):
        gradient_rollout(logits, maps, prefix_tokens=8)
    with pytest.raises(ValueError, match="pass the ViT's own maps"):
        gradient_rollout(logits, [AttentionMap(maps[0].q, maps[0].k, 1.0)])
    with torch.no_grad(), pytest.raises(ValueError, match="not on the graph: gradients were off, or weights are"):
        gradient_rollout(*vit(image)[:2])
    with pytest.raises(ValueError, match=r"the last map has no part in these logits.*vit_logits of GenomicViT"):
        gradient_rollout(logits, vit(image).attention)
    vit.requires_grad_(False).head.requires_grad_(True)
    with pytest.raises(ValueError, match=r"weights are frozen; call the ViT with gradients enabled.*or on an image"):
        gradient_rollout(*vit(image)[:2])
    found = gradient_rollout(*vit.requires_grad_(False)(image.clone().requires_grad_())[:2], prefix_tokens=2)
    torch.testing.assert_close(found, gradient_rollout(logits, maps, prefix_tokens=2))


def test_the_answer_of_the_cnn_is_refused():
    """It reaches all maps but the last through the heat, and would give something that is not the ViT's relevance."""
    torch.manual_seed(0)
    tree = {"slab": {"tile_px": 16}, "vit": {"patch_px": 4, "width": 16, "depth": 2, "heads": 2}}
    output = build_model(from_tree(tree, "here")).eval()(torch.rand(1, 1, 48, 48))
    assert gradient_rollout(output.vit_logits, output.attention).max() > 0
    with pytest.raises(ValueError, match=r"pass those of the ViT's own head \(vit_logits of GenomicViT\)"):
        gradient_rollout(output.logits, output.attention)
