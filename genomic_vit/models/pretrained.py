"""Weights that others trained, put into our ViT."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from genomic_vit.models.adapt import blocks, embedding, tokens
from genomic_vit.models.checkpoint import Checkpoint, translate
from genomic_vit.models.namings import OURS
from genomic_vit.models.vit import ViT
from genomic_vit.models.weight_file import PretrainedError, flatten, noted_heads, read_weights

PUBLIC_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}  # of Ti, S, B, L and H, in every family known here


@dataclass(frozen=True)
class PretrainedReport:
    """What was loaded, how it was made to fit, and what was not.

    Args:
        source: the file, or "state dict".
        sha256: of the file, hex; None for a state dict.
        naming: the family of names that was recognised.
        prefix: what all its names began with.
        loaded: names of our parameters that now hold the checkpoint's.
        adapted: what had to be changed to fit, one sentence each.
        as_built: names of our parameters that the checkpoint did not give; they hold what they held before.
        not_used: names in the checkpoint that were not taken.
    """

    source: str
    sha256: str | None
    naming: str
    prefix: str
    loaded: tuple[str, ...]
    adapted: tuple[str, ...]
    as_built: tuple[str, ...]
    not_used: tuple[str, ...]

    def __str__(self) -> str:
        under = f", under {self.prefix!r}" if self.prefix else ""
        lines = [f"pretrained ViT: {len(self.loaded)} tensors from {self.source} ({self.naming}{under})", *self.adapted]
        lines.append(f"as built: {_by_group(self.as_built, '')}")
        lines.append(f"not used: {_by_group(self.not_used, self.prefix)}")
        return "\n  ".join(lines)


def load_pretrained(vit: ViT, source: str | Path | Mapping) -> PretrainedReport:
    """Put the weights of a public ViT into `vit`, in place; all of it or, on an error, nothing.

    Read are timm, DeiT, MAE and DINOv2 names, Hugging Face's ViT, DeiT, ViTMAE, Dinov2 and Dinov2WithRegisters,
    Google's .npz, and our own runs' model.safetensors, nested and prefixed in whatever way (`model.`, `teacher.`, …).

    What is made to fit:

    - First conv: kernels are summed over the checkpoint's input channels and each of our c channels gets that sum / c.
      An image of equal channels so gives what the checkpoint gives for the same grey in all of its channels. Our grids
      are in [0, 1], without the mean and deviation that such checkpoints were trained with: against what they saw,
      patches come in with about a quarter (ImageNet) or half (0.5, 0.5) of the contrast and a constant offset,
      which fine-tuning has to take up.
    - Patch side: the pseudo-inverse resize of FlexiViT (Beyer et al., arXiv 2212.08013, §3.4).
    - Positions: bicubic with antialias onto our (r, c) patches. Rows that belong to CLS, distillation or register
      tokens are added to those tokens, as our ViT adds positions to patches only. A checkpoint's own grid is square,
      or has as many patches as ours.
    - DeiT's distillation token becomes the register of a ViT that has one; else it is left out.
    - Blocks: the first of a deeper checkpoint. LayerScale that we lack is folded into the projections before it, and
      LayerScale that the checkpoint lacks becomes one: both are exact. Biases it lacks become zero.
    - The class head is never taken.

    LayerNorm keeps eps 1e-6, which all these were trained with (transformers' ViTModel declares 1e-12), and GELU is
    exact (Google's own code has the tanh approximation; timm and transformers run its weights with the exact one).

    Args:
        vit: of the width, heads, MLP width and registers of the checkpoint.
        source: .safetensors, .npz or torch file, or a state dict. Nothing is unpickled.

    Raises:
        PretrainedError: unreadable, unknown or not finite, or it does not fit; names the settings that would.
    """
    if isinstance(source, Mapping):
        where, sha256, tensors = "state dict", None, flatten(source)
    else:
        where, tensors = str(source), read_weights(Path(source))
        sha256 = file_sha256(Path(source))
    checkpoint = translate(tensors, where)
    if checkpoint.naming == OURS.name and not isinstance(source, Mapping):
        checkpoint = replace(checkpoint, heads=noted_heads(Path(source)))
    checkpoint = replace(checkpoint, tensors={name: _at_least_float32(t) for name, t in checkpoint.tensors.items()})
    _check_fit(vit, checkpoint, where)
    first, first_notes = embedding(vit, checkpoint, where)
    prefix, prefix_notes, as_built = tokens(vit, checkpoint, where)
    inner, inner_notes = blocks(vit, checkpoint, where)
    norm = {name: t for name, t in checkpoint.tensors.items() if name.startswith("norm.")}
    taken, held = {**first, **prefix, **inner, **norm}, vit.state_dict()
    _check_values(taken, held, where)
    vit.load_state_dict({**held, **taken})
    notes = [*first_notes, *prefix_notes, *inner_notes]
    if _heads_of(checkpoint) is None:
        notes.append(f"heads: the checkpoint does not tell how many it had; used with {_heads(vit)}")
    return PretrainedReport(
        source=where,
        sha256=sha256,
        naming=checkpoint.naming,
        prefix=checkpoint.prefix,
        loaded=tuple(name for name in held if name in taken),
        adapted=tuple(notes),
        as_built=(*as_built, *(name for name in held if name not in taken)),
        not_used=checkpoint.not_used,
    )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_fit(vit: ViT, checkpoint: Checkpoint, where: str) -> None:
    """Raise PretrainedError with all settings that would have to change."""
    width, hidden = len(checkpoint.tensors["embed.weight"]), checkpoint.tensors.get("blocks.0.mlp.0.weight")
    for name, tensor in checkpoint.tensors.items():
        if name in ("cls", "distilled", "registers", "positions") or name.endswith("gamma"):
            _check_shape(name, tensor.shape, (*tensor.shape[:-1], width), where)
    ours = {
        "vit.width": vit.prefix.shape[1],
        "vit.heads": _heads(vit),
        "vit.mlp_ratio": vit.blocks[0].mlp[0].out_features / vit.prefix.shape[1],
        "vit.depth": len(vit.blocks),
        "vit.registers": vit.prefix_tokens - 1,
    }
    needed = dict(ours)
    needed["vit.width"] = width
    needed["vit.heads"] = _heads_of(checkpoint) or ours["vit.heads"]
    needed["vit.depth"] = min(ours["vit.depth"], checkpoint.depth)
    if hidden is not None:
        needed["vit.mlp_ratio"] = len(hidden) / width
    if "registers" in checkpoint.tensors:
        needed["vit.registers"] = len(checkpoint.tensors["registers"])
    wrong = [name for name in ours if ours[name] != needed[name]]
    if wrong:
        here = ", ".join(f"{name} is {ours[name]:g}" for name in wrong)
        fits = ", ".join(f"{name} {needed[name]:g}" for name in wrong)
        raise PretrainedError(
            f"{where}: does not fit this ViT, where {here}. The file is a ViT of width {width} and depth "
            f"{checkpoint.depth} ({checkpoint.naming}); set {fits}."
        )


def _heads_of(checkpoint: Checkpoint) -> int | None:
    """As the file says, or as every public ViT of that width has; None where neither tells."""
    if checkpoint.heads is not None or checkpoint.naming == OURS.name:
        return checkpoint.heads
    return PUBLIC_HEADS.get(len(checkpoint.tensors["embed.weight"]))


def _check_values(taken: dict[str, Tensor], held: dict[str, Tensor], where: str) -> None:
    for name, tensor in taken.items():
        _check_shape(name, tensor.shape, held[name].shape, where)
        if not torch.isfinite(tensor).all():
            raise PretrainedError(
                f"{where}: what stands for {name} has NaN or infinite values; take another checkpoint."
            )


def _check_shape(name: str, found: Sequence[int], needed: Sequence[int], where: str) -> None:
    if tuple(found) != tuple(needed):
        raise PretrainedError(
            f"{where}: what stands for {name} is {tuple(found)}, {tuple(needed)} was needed; "
            "the file does not hang together. Export it again."
        )


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _heads(vit: ViT) -> int:
    return vit.blocks[0].attention.heads


def _by_group(names: tuple[str, ...], prefix: str) -> str:
    """Names by what they begin with, and how many: `mask_token, decoder_blocks (96)`."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[re.split(r"[./]", name.removeprefix(prefix))[0]].append(name.removeprefix(prefix))
    shown = (held[0] if len(held) == 1 else f"{group} ({len(held)} tensors)" for group, held in groups.items())
    return ", ".join(shown) or "nothing"
