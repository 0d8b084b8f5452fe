"""Slow, plain reference versions, written from the papers; numpy, float64, loops."""

import numpy as np


def rollout(attention: list[np.ndarray], residual: float) -> np.ndarray:
    """Abnar & Zuidema 2020, full product of matrices: attention one (b h n n) a layer, result (b n n)."""
    images, _, tokens, _ = attention[0].shape
    product = np.stack([np.eye(tokens)] * images)
    for layer in attention:
        for image in range(images):
            mean = sum(layer[image, head] for head in range(layer.shape[1])) / layer.shape[1]
            product[image] = ((1 - residual) * mean + residual * np.eye(tokens)) @ product[image]
    return product


def softmax_attention(q: np.ndarray, k: np.ndarray, scale: float) -> np.ndarray:
    """Attention matrix (b h n n) of q, k (b h n e), entry by entry."""
    scores = np.einsum("bhie,bhje->bhij", q, k) * scale
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)
