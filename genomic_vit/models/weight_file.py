"""Files of weights, opened without running anything that is in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from genomic_vit.config import UserError

HEADS = "vit.heads"  # in the metadata of our own files
KINDS = ".safetensors, .npz, or a torch file (.pth .pt .bin .ckpt)"


class PretrainedError(UserError):
    """Weights cannot be read or do not fit; the message says where, what was found and which settings would fit."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file by its name; what was nested has its names joined by dots (`model.blocks.0.…`).

    Args:
        path: .safetensors, .npz (opened with allow_pickle=False), or anything torch.save wrote (weights_only=True).

    Raises:
        PretrainedError: no such file, damaged, of another kind, or holding Python objects: nothing is unpickled.
    """
    if path.is_dir():
        weights = (".safetensors", ".npz", ".pth", ".pt", ".bin", ".ckpt")
        inside = [file.name for file in sorted(path.iterdir()) if file.suffix in weights]
        hint = f"give one of {', '.join(inside[:4])}" if inside else f"give a file: {KINDS}"
        raise PretrainedError(f"{path}: is a folder; {hint}.")
    if not path.is_file():
        raise PretrainedError(f"{path}: no such file of weights; give a path (nothing is downloaded by name).")
    if path.name.endswith(".index.json"):
        raise PretrainedError(f"{path}: is the index of a checkpoint in several files; join them into one {KINDS}.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_npz(path) if path.suffix == ".npz" else _read_torch(path)


def noted_heads(path: Path) -> int | None:
    """Heads of the ViT in a safetensors file of ours, which its tensors do not tell; None where nothing does."""
    if path.suffix != ".safetensors":
        return None
    with safe_open(path, "pt") as file:
        noted = (file.metadata() or {}).get(HEADS, "")
    return int(noted) if noted.isdecimal() else None


def flatten(tree: Mapping, prefix: str = "") -> dict[str, Tensor]:
    """Tensors and arrays of nested mappings by dotted name; everything else in them is passed over."""
    flat: dict[str, Tensor] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Tensor):
            flat[name] = value.detach().cpu()
        elif isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            flat[name] = torch.from_numpy(value)
        elif isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
    return flat


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as cause:
        raise PretrainedError(f"{path}: is not a whole safetensors file ({cause}); copy it again.") from cause


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return flatten({name: file[name] for name in file.files})
    except Exception as cause:  # a damaged or hostile archive can fail in any way
        if "allow_pickle" in str(cause):
            raise PretrainedError(
                f"{path}: holds pickled Python objects. Unpickling can run code, so it is not opened; save plain "
                "arrays with numpy.savez and give that."
            ) from cause
        raise PretrainedError(f"{path}: is not a whole .npz file ({_said(cause)}); copy it again.") from cause


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        tree = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as cause:  # a damaged or hostile pickle can fail in any way
        if refused := re.search(r"GLOBAL ([\w.]+)", str(cause)):
            raise PretrainedError(
                f"{path}: holds {refused[1]}, a Python object, beside tensors. Unpickling can run code, so it is not "
                "opened; where you trust the file, save its tensors alone (safetensors.torch.save_file) and give that."
            ) from cause
        raise PretrainedError(f"{path}: cannot be read as weights ({_said(cause)}); needed: {KINDS}.") from cause
    if isinstance(tree, Mapping):
        return flatten(tree)
    raise PretrainedError(f"{path}: holds {type(tree).__name__}; a mapping of names to tensors was needed.")


def _said(cause: Exception) -> str:
    """The first words of an exception."""
    return str(cause).strip().split("\n")[0][:120] or type(cause).__name__
