"""Slow, plain reference versions, written from the papers; numpy, float64, loops."""

import numpy as np


def rollout(
    attention: list[np.ndarray],
    residual: float | list[float] = 0.5,
    fusion: str = "mean",
    discard: float = 0.0,
    start_layer: int = 0,
    kept: tuple[int, ...] = (0,),
) -> np.ndarray:
    """Abnar & Zuidema 2020, full product of matrices: attention one (b h n n) a layer, result (b n n)."""
    images, _, tokens, _ = attention[0].shape
    shares = residual if isinstance(residual, list) else [residual] * len(attention)
    product = np.stack([np.eye(tokens)] * images)
    for image in range(images):
        for layer in range(start_layer, len(attention)):
            fused = fuse(attention[layer][image], fusion, discard, kept)
            hat = (1 - shares[layer]) * fused + shares[layer] * np.eye(tokens)
            product[image] = hat @ product[image]
    return product


def fuse(heads: np.ndarray, fusion: str, discard: float, kept: tuple[int, ...]) -> np.ndarray:
    """Heads (h n n) of one image and layer to one matrix (n n) whose rows sum to one, the smallest entries dropped."""
    tokens = heads.shape[1]
    fused = np.empty((tokens, tokens))
    for i in range(tokens):
        for j in range(tokens):
            seen = [head[i, j] for head in heads]
            fused[i, j] = {"mean": sum(seen) / len(seen), "max": max(seen), "min": min(seen)}[fusion]
    body = sorted(fused[i, j] for i in range(tokens) for j in range(tokens) if i not in kept and j not in kept)
    if discard:
        smallest_kept = body[int(discard * len(body))]
        for i in range(tokens):
            for j in range(tokens):
                if i not in kept and j not in kept and fused[i, j] < smallest_kept:
                    fused[i, j] = 0
    if fusion == "mean" and not discard:
        return fused  # as it was given, where it was rounded
    for i in range(tokens):
        fused[i] = fused[i] / fused[i].sum() if fused[i].sum() > 0 else np.eye(tokens)[i]
    return fused


def gradient_rollout(attention: list[np.ndarray], gradient: list[np.ndarray]) -> np.ndarray:
    """Chefer et al. 2021 (arXiv 2103.15679, eq. 5 and 6): R = R + mean_h((dy/dA * A)+) R, from R = I."""
    images, heads, tokens, _ = attention[0].shape
    relevance = np.stack([np.eye(tokens)] * images)
    for layer, slope in zip(attention, gradient, strict=True):
        for image in range(images):
            mean = np.zeros((tokens, tokens))
            for head in range(heads):
                mean += np.maximum(slope[image, head] * layer[image, head], 0) / heads
            relevance[image] = relevance[image] + mean @ relevance[image]
    return relevance


def softmax_attention(q: np.ndarray, k: np.ndarray, scale: float) -> np.ndarray:
    """Attention matrix (b h n n) of q, k (b h n e), entry by entry."""
    scores = np.einsum("bhie,bhje->bhij", q, k) * scale
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)
