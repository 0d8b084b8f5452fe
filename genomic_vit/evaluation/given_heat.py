"""What the CNN is given in place of its heat when it is tested: the same for every stack of every case, by rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from genomic_vit.config import ViewConfig
from genomic_vit.data.entry import PreparedSlab
from genomic_vit.data.grid import STACK_SLICES, stack_starts
from genomic_vit.data.slab import Slab
from genomic_vit.evaluation.arms import Heat


def given_heat(
    source: Heat,
    slabs: Sequence[Slab | PreparedSlab],
    patients: np.ndarray,
    view: ViewConfig,
    seed: int,
    own: Callable[[], np.ndarray],
) -> np.ndarray | None:
    """Heat for all strided stacks in the order of `AllStacks`, (stack 9 y x); as `models.heat_sources` defines it.

    Args:
        source: what to give; rollout gives None (the network's own), none an array without slices.
        slabs: one a case.
        patients: (case).
        view: gives the stride.
        seed: of who gives heat to whom.
        own: computes the network's heat of all stacks, (stack 9 y x); called for shuffled only.

    Raises:
        ValueError: shuffled heat of one patient.
    """
    if source == "rollout":
        return None
    if source == "shuffled":
        return own()[donors(slabs, patients, view, seed)]
    lesion = np.concatenate(
        [
            np.stack(
                [slab.lesion[start : start + STACK_SLICES] for start in stack_starts(len(slab.hu), view.eval_stride)]
            )
            for slab in slabs
        ]
    ).astype(np.float32)
    if source == "none":
        return lesion[:, :0]
    if source == "zero":
        return np.zeros_like(lesion)
    if source == "uniform":
        return np.ones_like(lesion)
    mean = lesion.mean(axis=(1, 2, 3), keepdims=True)
    return np.where(mean > 0, lesion / np.maximum(mean, 1e-6), 1.0).astype(np.float32)


def donors(slabs: Sequence[Slab | PreparedSlab], patients: np.ndarray, view: ViewConfig, seed: int) -> np.ndarray:
    """For each strided stack the stack whose heat it gets, (stack): of another patient, at the same relative depth.

    Patients stand in a random ring and each gets the heat of the next one's first case.

    Raises:
        ValueError: one patient only.
    """
    names = np.unique(patients)
    if len(names) < 2:
        raise ValueError("donors: heat is shuffled between patients, and there is one patient only")
    counts = [len(stack_starts(len(slab.hu), view.eval_stride)) for slab in slabs]
    first = np.concatenate([[0], np.cumsum(counts)])
    ring = np.random.default_rng(seed).permutation(names)
    following = dict(zip(ring.tolist(), np.roll(ring, -1).tolist(), strict=True))
    donor = []
    for case, count in enumerate(counts):
        giver = int(np.flatnonzero(patients == following[patients[case]])[0])
        donor.append(first[giver] + same_depth(count, counts[giver]))
    return np.concatenate(donor)


def same_depth(stacks: int, given: int) -> np.ndarray:
    """For each of a slab's strided stacks the one at the same relative depth of a slab that has `given`, (stack)."""
    depth = np.linspace(0, given - 1, stacks) if stacks > 1 else np.array([(given - 1) / 2])
    return np.rint(depth).astype(int)
