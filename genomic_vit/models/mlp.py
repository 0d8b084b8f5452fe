"""The MLP of a ViT block in pieces of tokens, keeping less to learn from than its layers one after the other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from genomic_vit.models.blocks import groups_of
from genomic_vit.models.streamed import once_only

# Tokens at a time. Memory of large results in between, freed among others that stay, found no second use (glibc).
PIECE = 512


def spare_rows(norm: nn.Module, mlp: nn.Sequential, tokens: Float[Tensor, "b n d"]) -> int:
    """How many rows of mean attention, n numbers each, fit into what `spared_mlp` does not keep of n tokens' GELU.

    0 where it cannot stand for `mlp(norm(tokens))`: its layers are others than those that `Block` makes, have hooks or
    have weights that stay as they are (of which plain layers keep as little), or nothing is learnt.
    """
    kinds = nn.LayerNorm, nn.Linear, nn.GELU, nn.Dropout, nn.Linear, nn.Dropout
    layers = [norm, *mlp]
    weights = [weight for layer in layers for weight in layer.parameters()]
    if not (
        torch.is_grad_enabled()
        and [type(layer) for layer in layers] == list(kinds)
        and mlp[1].approximate == "none"
        and len(weights) == 6  # biases too
        and all(weight.requires_grad for weight in weights)
        and not any(hooks for layer in (*layers, mlp) for hooks in _hooks(layer))
    ):
        return 0
    return mlp[0].out_features * _product_dtype(tokens).itemsize // max(tokens.dtype.itemsize, 4)


def spared_mlp(norm: nn.LayerNorm, mlp: nn.Sequential, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
    """`mlp(norm(tokens))` for an MLP of Linear, GELU, Dropout, Linear, Dropout, with the same draws.

    Kept are the tokens and what goes into GELU; what norm and GELU make is made again in the backward pass, for 2 to
    4 % of the MLP's time. With f hidden units that is n (d + f) numbers less. First derivatives only.

    Raises:
        RuntimeError: a second derivative is asked for.
    """
    first, _gelu, drop, second, last = mlp
    kind, noise = _product_dtype(tokens), None
    if drop.p and drop.training:
        noise = drop(tokens.new_ones(*tokens.shape[:-1], first.out_features, dtype=kind))
    parts = norm.weight, norm.bias, first.weight, first.bias, second.weight, second.bias
    return last(_SparedMlp.apply(tokens, kind, noise, norm.eps, *parts))


def _hooks(layer: nn.Module) -> tuple[dict, ...]:
    return layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks


def _product_dtype(tokens: Tensor) -> torch.dtype:
    """What a Linear would compute in: autocast's dtype where it is on, but of float64, which it leaves alone."""
    device = tokens.device.type
    cast = torch.is_autocast_enabled(device) and tokens.dtype != torch.float64
    return torch.get_autocast_dtype(device) if cast else tokens.dtype


class _SparedMlp(torch.autograd.Function):
    """Linear(GELU(Linear(LayerNorm(tokens))) * noise), with products in the dtype `kind`."""

    @staticmethod
    def forward(
        ctx, tokens: Tensor, kind: torch.dtype, noise: Tensor | None, eps: float,
        gamma: Tensor, beta: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor,
    ) -> Tensor:  # fmt: skip
        flat, noise = tokens.flatten(0, 1), noise if noise is None else noise.flatten(0, 1)
        hidden, out = (flat.new_empty(len(flat), len(weight), dtype=kind) for weight in (w1, w2))
        first, second = [w1.to(kind), b1.to(kind)], [w2.to(kind), b2.to(kind)]
        with torch.autocast(tokens.device.type, enabled=False):
            for some in groups_of(len(flat), PIECE):
                normed = F.layer_norm(flat[some], gamma.shape, gamma, beta, eps)
                hidden[some] = F.linear(normed.to(kind), *first)
                out[some] = F.linear(_active(hidden, noise, some), *second)
        ctx.save_for_backward(tokens, noise, hidden, gamma, beta, w1, w2)
        ctx.eps = eps
        return out.view_as(tokens)

    @staticmethod
    def backward(ctx, d_out: Tensor) -> tuple[Tensor | None, ...]:
        once_only()
        tokens, noise, hidden, gamma, beta, w1, w2 = ctx.saved_tensors
        kind, flat, d_out = hidden.dtype, tokens.flatten(0, 1), d_out.flatten(0, 1)
        d_tokens, d_bias = torch.empty_like(flat), hidden.new_zeros(len(w1), dtype=w1.dtype)
        d_gamma, d_beta, d_w1, d_w2 = (torch.zeros_like(part) for part in (gamma, beta, w1, w2))
        with torch.autocast(tokens.device.type, enabled=False):
            for some in groups_of(len(flat), PIECE):
                normed, *moments = torch.native_layer_norm(flat[some], gamma.shape, gamma, beta, ctx.eps)
                d_w2 += d_out[some].t() @ _active(hidden, noise, some)
                d_active = d_out[some] @ w2.to(kind)
                if noise is not None:
                    d_active *= noise[some]
                d_hidden = torch.ops.aten.gelu_backward(d_active, hidden[some])
                d_w1 += d_hidden.t() @ normed.to(kind)
                d_bias += d_hidden.sum(0)
                d_normed = (d_hidden @ w1.to(kind)).to(flat.dtype)
                d_tokens[some], scaled, shifted = torch.ops.aten.native_layer_norm_backward(
                    d_normed, flat[some], gamma.shape, *moments, gamma, beta, [True] * 3
                )
                d_gamma += scaled
                d_beta += shifted
        d_b2 = d_out.sum(0, dtype=w2.dtype)
        return d_tokens.view_as(tokens), None, None, None, d_gamma, d_beta, d_w1, d_bias, d_w2, d_b2


def _active(hidden: Float[Tensor, "tokens f"], noise: Float[Tensor, "tokens f"] | None, some: slice) -> Tensor:
    active = F.gelu(hidden[some])
    return active if noise is None else active * noise[some]
