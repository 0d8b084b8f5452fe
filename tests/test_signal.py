"""The phantom's known answer: found where it is planted, not found where it is not. Half an hour on two cores."""

import csv
import json

import numpy as np
import pytest
from scipy.stats import rankdata

from genomic_vit.train import main as train

SEEDS = (0, 1, 2)
CHANCE = 0.01  # how often a network that knows nothing may fail the test of signal 0, by declaration


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def held_out(mode, signal, seed, cache, out):
    """Train on a phantom cohort of its own; labels and probabilities of the held-out patients. Prints its AUC."""
    given = ["--phantom.signal", str(signal), "--phantom.seed", str(seed), "--seed", str(seed), "--cache", str(cache)]
    assert train(["--mode", mode, "--out", str(out), *given]) == 0
    auc = json.loads((out / "metrics.json").read_text())["mutant"]["by_case"]["auc"]
    print(f"signal {signal} seed {seed} {mode}: AUC {auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})")
    rows = [row for row in csv.DictReader((out / "predictions.csv").open()) if row["part"] == "test"]
    return np.array([int(row["mutant"]) for row in rows]), np.array([float(row["mutant_probability"]) for row in rows])


def auc(label, probability):
    """Mann-Whitney's U over the number of pairs, (…) for labels (… patient)."""
    positive = label.sum(axis=-1)
    above = label @ rankdata(probability) - positive * (positive + 1) / 2
    return above / (positive * (label.shape[-1] - positive))


def chance_of_mean_auc(cohorts, draws=10_000):
    """Mean AUC of cohorts, and the share of label permutations within them whose mean lies as far from one half."""
    generator = np.random.default_rng(0)
    found = np.mean([auc(label, p) for label, p in cohorts])
    null = np.mean([auc(generator.permuted(np.tile(y, (draws, 1)), axis=1), p) for y, p in cohorts], axis=0)
    return found, float(np.mean(np.abs(null - 0.5) >= abs(found - 0.5) - 1e-12))


def test_the_test_itself_tells_knowledge_from_chance():
    generator = np.random.default_rng(1)
    labels = [generator.permutation(np.repeat([0, 1], 12)) for _ in SEEDS]
    blind = [chance_of_mean_auc([(y, generator.normal(size=24)) for y in labels], 1000)[1] for _ in range(400)]
    assert abs(np.mean(np.array(blind) <= 0.1) - 0.1) < 0.05  # what knows nothing fails as often as declared
    knowing = [(y, generator.normal(size=24) + 1.2 * y) for y in labels]
    found, chance = chance_of_mean_auc(knowing)
    assert 0.7 < found < 0.9 and chance < CHANCE
    found, chance = chance_of_mean_auc([(y, -p) for y, p in knowing])  # below one half is knowledge too
    assert 0.1 < found < 0.3 and chance < CHANCE


@pytest.mark.long
@pytest.mark.parametrize("mode", ["joint", "staged"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_planted_signal_is_found(mode, seed, cache, tmp_path):
    assert auc(*held_out(mode, 1.0, seed, cache, tmp_path / "run")) >= 0.85


@pytest.mark.long
@pytest.mark.parametrize("mode", ["joint", "staged"])
def test_where_nothing_is_planted_nothing_is_found(mode, cache, tmp_path):
    """One cohort's 95 % interval misses 0.5 in one of twenty by nature, so three cohorts are judged together."""
    cohorts = [held_out(mode, 0.0, seed, cache, tmp_path / str(seed)) for seed in SEEDS]
    found, chance = chance_of_mean_auc(cohorts)
    print(f"signal 0 {mode}: mean AUC {found:.3f} of {len(SEEDS)} cohorts, as far from 0.5 by chance in {chance:.1%}")
    assert chance >= CHANCE
