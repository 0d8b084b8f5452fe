"""Whether the heat lies where the lesion is, against what chance would give."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from genomic_vit.data.slab import Slab


class HeatOnLesion(NamedTuple):
    """Of one case.

    Args:
        share: of the heat that lies in the lesion.
        area: share of the slab that is lesion: what even heat would give, and a random point's chance to hit.
        hit: 1 where the hottest pixel is in the lesion (the pointing game, Zhang et al. 2018), else 0.
    """

    share: float
    area: float
    hit: float


def heat_on_lesion(slab: Slab, heat: np.ndarray) -> HeatOnLesion:
    """How much of a slab's heat (z y x) lies in its lesion; slices that evaluation never looked at do not exist."""
    inside = slab.lesion
    hottest = np.unravel_index(int(np.argmax(heat)), heat.shape)
    return HeatOnLesion(float(heat[inside].sum() / heat.sum()), float(inside.mean()), float(inside[hottest]))
