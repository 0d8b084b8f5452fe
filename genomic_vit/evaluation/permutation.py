"""Whether an arm tells labels better than the same labels dealt anew."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.stats import rankdata

from genomic_vit.evaluation.metrics import in_blocks
from genomic_vit.evaluation.rows import Rows

PERMUTATIONS = 2000


def permutation_p(rows: Rows, arm: str, seed: int, permutations: int = PERMUTATIONS) -> float:
    """Share of relabellings of the rows whose AUC is as large as that of the labels, one-sided; never 0.

    The labels of a patient stay together: they are dealt to a patient with as many rows, of the same fold where pairs
    are of one fold, and then shuffled among that patient's rows (whole-block and within-block exchange, Winkler et al.
    2015, doi 10.1016/j.neuroimage.2015.05.092). With one row a patient these are all permutations of patients.

    Returns:
        NaN where every relabelling is the labels themselves.
    """
    label, generator = rows.label, np.random.default_rng(seed)
    ranks = _ranks(rows.probability[arm], rows.strata)  # of as many positives, a larger AUC is a larger sum of ranks
    groups = [places for places in _exchangeable(rows) if np.ptp(label[places]) > 0]
    if not groups:
        return float("nan")
    reached, drawn_sum = 0.0, np.zeros(permutations)
    for places in groups:
        own, rank = label[places], ranks[places]
        reached += float((own * rank).sum())
        for part in in_blocks(permutations, places.size):
            order = np.tile(np.arange(len(places)), (part.stop - part.start, 1))
            drawn = own[generator.permuted(order, axis=1)]  # (sample patient row)
            if places.shape[1] > 1:
                drawn = generator.permuted(drawn, axis=2)
            drawn_sum[part] += np.einsum("spr,pr->s", drawn, rank)
    return float((1 + np.sum(drawn_sum >= reached - 1e-9)) / (1 + permutations))


def _exchangeable(rows: Rows) -> Iterator[np.ndarray]:
    """Rows of patients who may change labels, (patient row): as many rows each, and of one stratum."""
    order = np.argsort(rows.patients, kind="stable")
    begins = np.flatnonzero(np.append(True, rows.patients[order][1:] != rows.patients[order][:-1]))
    count = np.diff(begins, append=len(order))
    stratum = np.zeros(len(begins)) if rows.strata is None else rows.strata[order[begins]]
    for kind in np.unique(np.stack([stratum, count]), axis=1).T:
        alike = (stratum == kind[0]) & (count == kind[1])
        yield order[begins[alike][:, None] + np.arange(int(kind[1]))]


def _ranks(score: np.ndarray, strata: np.ndarray | None) -> np.ndarray:
    """Midranks, in each stratum, (row)."""
    if strata is None:
        return rankdata(score)
    ranks = np.zeros(len(score))
    for stratum in np.unique(strata):
        ranks[strata == stratum] = rankdata(score[strata == stratum])
    return ranks
