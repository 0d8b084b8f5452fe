"""A checkpoint in one form, whatever its naming was.

In that form it is: `embed.weight` (d c p p), `embed.bias`, `cls` (d), `distilled` (d), `registers` (k d), `positions`
(rows d; prefix rows first, where there are any), `norm.*`, and for each block `norm1.* norm2.* attention.qkv.*
attention.project.* mlp.0.* mlp.3.* scale1.gamma scale2.gamma`, as models/vit.py calls them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from einops import EinopsError, rearrange
from torch import Tensor

from genomic_vit.models.namings import GOOGLE, NAMINGS, Naming
from genomic_vit.models.weight_file import PretrainedError

TAKEN_FIRST = ("teacher", "ema", "params")  # of several ViTs in one file
SWIGLU = r"mlp\.(w1|w2|w3|w12|weights_in|weights_out|gate_proj|up_proj|fc1_g|fc1_x)\."
OTHER_KIND = r"rope|rotary|rel(ative)?_pos|norm_pre|patch_embed\.(norm|backbone)|conv_root"  # what else blocks may need


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights brought to one form.

    Args:
        naming: the family.
        prefix: what all its names began with.
        tensors: by the names of this module's docstring, in the checkpoint's own dtype.
        depth: number of blocks.
        heads: None where the file does not tell (all but Google's).
        not_used: names in the file that have no place here, whole.
    """

    naming: str
    prefix: str
    tensors: dict[str, Tensor]
    depth: int
    heads: int | None
    not_used: tuple[str, ...]


def translate(tensors: Mapping[str, Tensor], where: str) -> Checkpoint:
    """Weights in any known naming, brought to one form.

    Args:
        tensors: of a file or state dict, by flat name.
        where: the file, for messages.

    Raises:
        PretrainedError: no known naming, several ViTs, or a ViT of a kind that models/vit.py is not.
    """
    naming, prefix = _recognise(tensors, where)
    found: dict[str, Tensor] = {}
    not_used, strange = [], []
    for whole, tensor in tensors.items():
        name = re.sub(r"/(kernel|scale)$", "/weight", whole.removeprefix(prefix))
        ours = _rename(name, naming) if whole.startswith(prefix) else None
        if ours is not None:
            found[ours] = tensor
            continue
        not_used.append(whole)
        if whole.startswith(prefix) and (re.match(naming.block, name) or re.search(OTHER_KIND, name)):
            strange.append(whole)
    _refuse_other_kinds(found, strange, naming, where)
    heads = None
    if naming is GOOGLE:
        query = found.get("blocks.0.attention.q.weight")
        heads = None if query is None else query.shape[1]
        found = {name: _from_flax(name, tensor, where) for name, tensor in found.items()}
    found = _join_qkv(_split_prefix(found))
    depth = 1 + max(int(name.split(".")[1]) for name in found if name.startswith("blocks."))
    return Checkpoint(naming.name, prefix, found, depth, heads, tuple(not_used))


def _recognise(names: Iterable[str], where: str) -> tuple[Naming, str]:
    """The naming and the prefix of the ViT in a file."""
    names = list(names)
    found = [
        (naming, name.removesuffix(naming.anchor))
        for naming in NAMINGS
        for name in names
        if name == naming.anchor or name.endswith((f".{naming.anchor}", f"/{naming.anchor}"))
    ]
    for word in TAKEN_FIRST if len(found) > 1 else ():
        found = [(naming, prefix) for naming, prefix in found if word in re.split(r"[._/]", prefix)] or found
    if len(found) == 1:
        return found[0]
    if found:
        prefixes = ", ".join(repr(prefix) for _, prefix in found)
        raise PretrainedError(f"{where}: holds {len(found)} ViTs, under {prefixes}; give a file with one of them.")
    known = "; ".join(f"{naming.name} (has {naming.anchor})" for naming in NAMINGS)
    held = f"{len(names)} tensors such as {', '.join(names[:4])}" if names else "no tensors"
    raise PretrainedError(f"{where}: holds no ViT by a known naming, but {held}. Known: {known}.")


def _rename(name: str, naming: Naming) -> str | None:
    for pattern, ours in naming.renames:
        if match := re.fullmatch(pattern, name):
            return match.expand(ours)
    return None


def _refuse_other_kinds(found: dict[str, Tensor], strange: list[str], naming: Naming, where: str) -> None:
    """Raise PretrainedError for what would load in part and then compute something else."""
    first, second = found.get("blocks.0.mlp.0.weight"), found.get("blocks.0.mlp.3.weight")
    packed = first is not None and second is not None and len(first) == 2 * second.shape[-1]
    if packed or any(re.search(SWIGLU, name) for name in strange):
        raise PretrainedError(
            f"{where}: its MLPs are SwiGLU (as in DINOv2 giant); this ViT has GELU MLPs. "
            "Give the small, base or large model of the family."
        )
    if strange:
        raise PretrainedError(
            f"{where}: reads as {naming.name}, but also holds {', '.join(strange[:3])} ({len(strange)} tensors), "
            "for which this ViT has no place, so it would compute something else. Give a plain ViT."
        )
    if not any(name.startswith("blocks.") for name in found) or "embed.weight" not in found:
        missing = "first conv" if "embed.weight" not in found else "blocks of a plain ViT"
        raise PretrainedError(f"{where}: has {naming.anchor} as {naming.name} does, but no {missing}.")


def _from_flax(name: str, tensor: Tensor, where: str) -> Tensor:
    """flax keeps inputs first and heads apart."""
    kind, _, last = name.rpartition(".")
    pattern = None
    if name == "embed.weight":
        pattern = "r c channel d -> d channel r c"
    elif kind.endswith((".q", ".k", ".v")):
        pattern = "d h e -> (h e) d" if last == "weight" else "h e -> (h e)"
    elif name.endswith("attention.project.weight"):
        pattern = "h e d -> d (h e)"
    elif last == "weight" and ".mlp." in name:
        pattern = "i o -> o i"
    try:
        return rearrange(tensor, pattern) if pattern else tensor
    except EinopsError as cause:
        raise PretrainedError(
            f"{where}: {name} is {tuple(tensor.shape)}, which is not the {pattern.split(' -> ')[0]!r} of Google's .npz."
        ) from cause


def _split_prefix(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """CLS, registers and positions as (d), (k d) and (rows d), whatever axes of one stood before."""
    found = dict(found)
    if "prefix" in found:
        both = found.pop("prefix")
        found["cls"] = both[0]
        if len(both) > 1:
            found["registers"] = both[1:]
    for name in ("cls", "distilled"):
        if name in found:
            found[name] = found[name].flatten()
    for name in ("registers", "positions"):
        if name in found:
            found[name] = found[name].reshape(-1, found[name].shape[-1])
    return found


def _join_qkv(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """One qkv where q, k and v stand apart; of three biases, those that are absent are zero."""
    joined = {name: tensor for name, tensor in found.items() if not re.search(r"\.attention\.[qkv]\.", name)}
    for block in {name.split(".")[1] for name in found.keys() - joined.keys()}:
        at = f"blocks.{block}.attention"
        weights = [found.get(f"{at}.{part}.weight") for part in "qkv"]
        biases = [found.get(f"{at}.{part}.bias") for part in "qkv"]
        if all(weight is not None and weight.shape == weights[0].shape for weight in weights):
            joined[f"{at}.qkv.weight"] = torch.cat(weights)
            if any(bias is not None for bias in biases):
                zero = torch.zeros(len(weights[0]), dtype=weights[0].dtype)
                joined[f"{at}.qkv.bias"] = torch.cat([zero if bias is None else bias for bias in biases])
    return joined
