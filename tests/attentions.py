"""Attention drawn at random, as matrices and as maps."""

import torch

from genomic_vit.models.attention import AttentionMap


def random_attention(seed: int, layers: int, images: int, heads: int, tokens: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (images, heads, tokens, tokens)
    return [(2 * torch.randn(shape, generator=generator, dtype=torch.float64)).softmax(-1) for _ in range(layers)]


def random_maps(seed: int, layers: int, images: int, heads: int, tokens: int, width: int = 3) -> list[AttentionMap]:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, layers, images, heads, tokens, width)
    q, k = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return [AttentionMap(q[layer], k[layer], 0.6) for layer in range(layers)]
