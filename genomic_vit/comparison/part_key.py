"""What a part of a benchmark depends on. All of it is in the part's key; what changes no number of it is not."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from genomic_vit import __version__
from genomic_vit.comparison.study import Study
from genomic_vit.config import RunConfig
from genomic_vit.evaluation.arms import ARMS, Arm, NetworkArm, SwapArm, TableArm
from genomic_vit.training.run_folder import to_tree

FORMAT = 2  # raise it when a part's numbers would change for a reason that its key does not hold
LEARNING = ("slab", "view", "augment", "vit", "rollout", "cnn", "training")  # sections that training or scoring reads
ELSEWHERE = {  # every other setting of a run, and why it is not in the key
    "mode": "the arm's",
    "seed": "the part's; that of the folds is in the study's digest, by the folds",
    **dict.fromkeys(
        ("data", "phantom", "target", "positive", "negative", "labels"), "cases and labels are in the digest"
    ),
    **dict.fromkeys(("scan", "lesion"), "all voxels of slabs and outlines are in the digest"),
    "model": "the file of weights counts by its content",
    "split": "the share to choose by is in the key, the folds in the digest",
    "device": "where it is computed",
}


def part_key(study: Study, arm: Arm, config: RunConfig, fold: int, seed: int) -> str:
    """Hash of everything that a part's numbers depend on.

    That is: the program (FORMAT, version); the data (the study's digest of cases, patients, targets, labels, folds,
    voxels and outlines); what is held out (fold, seed, share to choose by); and of the arm what it is and learns by: of
    a network its settings in LEARNING, its pretrained weights and the heat that is put in its place when it is tested;
    of a table its columns. Nothing else: not the other arms, seeds, covariates, subgroups, nor paths or device.

    Args:
        study: what all parts share.
        arm: of the part.
        config: its settings, where it is a network.
        fold, seed: of the part.
    """
    told = {
        "program": [FORMAT, __version__],
        "data": study.digest,
        "held out": [fold, seed, study.config.run.split.validation],
    }
    if isinstance(arm, TableArm):
        table = study.tables[arm.features].to_csv()
        told |= {"arm": [arm.name, arm.features, arm.estimator], "table": table}
    elif isinstance(arm, NetworkArm):
        settings = to_tree(config)
        swaps = [[swap.name, swap.heat] for swap in ARMS.values() if isinstance(swap, SwapArm) and swap.of == arm.name]
        told |= {
            "arm": [arm.name, arm.mode, arm.heat, arm.answer, arm.rewards_lesion],
            "swaps": sorted(swaps),
            "settings": {name: settings[name] for name in LEARNING},
            "pretrained": _content(config.model.pretrained),
        }
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=16).hexdigest()


def _content(path: str | None) -> str | None:
    """Hash of a file; of one that cannot be read its name, and the part will say so."""
    if path is None:
        return None
    try:
        status = Path(path).stat()
        return _hashed(path, status.st_size, status.st_mtime_ns)
    except OSError:
        return path


@lru_cache(maxsize=8)
def _hashed(path: str, _size: int, _written: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
