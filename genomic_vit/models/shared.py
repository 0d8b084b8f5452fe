"""Attention whose backward pass takes a rollout's gradient along.

A rollout through r′ = rᵀ mean_h A_h hands each layer the gradient (r_i / h) g_j for entry A_ij, which is of rank one:
the same as one more column g beside the values, met by one more column r/h beside the gradient of what was made of
them. So the backward pass of attention, which makes A anew anyway, can carry the rollout's share of ∂q and ∂k for the
price of a column. What it needs, r and g, is known before it runs: the rollout's step stands behind it in the graph.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from genomic_vit.models.streamed import groups_of, mean_seen, mean_step, once_only, row_blocks


def can_share(q: Tensor) -> bool:
    """Whether `shared_attention` suits: in training on a CPU, where a rollout of its own would cost more."""
    return q.device.type == "cpu" and q.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_compiling()


def shared_attention(
    q: Float[Tensor, "b h n e"], k: Float[Tensor, "b h n e"], v: Float[Tensor, "b h n e"], scale: float
) -> tuple[Float[Tensor, "b h n e"], Float[Tensor, "b two n"]]:
    """softmax(q kᵀ scale) v by the fused kernel, and a port for one rollout's step through the same attention.

    Autocast does not reach inside: on a CPU bfloat16 makes attention slower, not faster.

    Returns:
        What attention made of the values, and the port: zeros whose gradient is the message (r, g). A port serves one
        `ported_step`, since two messages would be added up; first derivatives only.
    """
    return _Attention.apply(q, k, v, scale)


def ported_step(
    row: Float[Tensor, "b n"], port: Float[Tensor, "b two n"], q: Tensor, k: Tensor, scale: float
) -> Float[Tensor, "b n"]:
    """`streamed_step` with mean fusion, whose share of ∂q and ∂k goes through the port of `shared_attention`."""
    return _Step.apply(row, port, q.detach(), k.detach(), scale)


class _Attention(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # switches autocast off inside, backward too
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        mixed = F.scaled_dot_product_attention(q, k, v, scale=scale)
        ctx.save_for_backward(q, k, v, mixed)
        ctx.scale = scale
        ctx.set_materialize_grads(False)
        return mixed, q.new_zeros(q.shape[0], 2, q.shape[2])

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx, d_mixed: Tensor | None, message: Tensor | None) -> tuple[Tensor, Tensor, Tensor, None]:
        """With P = [dO, r/h] [V, g]ᵀ the gradient of A: ∂S = A (P − rowsum(A P)), and rowsum(A P) = dO·O + r/h A g."""
        once_only()
        q, k, v, mixed = ctx.saved_tensors
        images, heads, tokens, width = q.shape
        d_mixed = torch.zeros_like(mixed) if d_mixed is None else d_mixed
        message = q.new_zeros(images, 2, tokens) if message is None else message
        weight, g = (repeat(part, "b n -> b h n 1", h=heads) for part in message.unbind(1))
        flat = "b h n e -> (b h) n e"
        queries, keys = rearrange(q * ctx.scale, flat), rearrange(k, flat).contiguous()
        values, received = (rearrange(torch.cat(pair, dim=-1), flat) for pair in ((v, g), (d_mixed, weight)))
        own = rearrange((d_mixed * mixed).sum(-1, keepdim=True), flat)
        d_queries, d_keys, d_values = torch.empty_like(queries), torch.zeros_like(keys), torch.zeros_like(keys)
        for some in groups_of(images * heads, tokens, q):
            keys_row, values_row = keys[some].transpose(1, 2), values[some].transpose(1, 2)
            for block in row_blocks(tokens):
                attention = torch.softmax(torch.bmm(queries[some, block], keys_row), dim=-1)  # (bh rows n)
                theirs = torch.bmm(attention, values[some, :, width:]) * received[some, block, width:]
                d_scores = torch.bmm(received[some, block], values_row)
                d_scores.sub_(own[some, block] + theirs).mul_(attention)
                d_values[some] += torch.bmm(attention.transpose(1, 2), received[some, block, :width])
                d_queries[some, block] = torch.bmm(d_scores, keys[some])
                d_keys[some] += torch.bmm(d_scores.transpose(1, 2), queries[some, block])
        d_queries *= ctx.scale
        back = [rearrange(part, "(b h) n e -> b h n e", h=heads) for part in (d_queries, d_keys, d_values)]
        return *back, None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, row: Tensor, port: Tensor, q: Tensor, k: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(row, q, k)
        ctx.scale = scale
        return mean_step(row, q, k, scale)

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor | None, Tensor, None, None, None]:
        once_only()
        row, q, k = ctx.saved_tensors
        with torch.autocast("cpu", enabled=False):
            seen = mean_seen(g, q, k, ctx.scale) if ctx.needs_input_grad[0] else None
        return seen, torch.stack([row / q.shape[1], g], dim=1), None, None, None
