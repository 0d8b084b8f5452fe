"""Calibration and decision curves by hand arithmetic and by probabilities that are known to be right or wrong."""

import numpy as np
import pytest

from genomic_vit.evaluation.calibration import (
    calibration_bins,
    calibration_error_by_chance,
    calibration_lines,
    choose_operating_point,
    expected_calibration_error,
    logit,
)
from genomic_vit.evaluation.decision import TOLD, act_on_all, decision_rows, net_benefit
from genomic_vit.evaluation.rows import Rows


def drawn(size, seed=0):
    generator = np.random.default_rng(seed)
    probability = generator.uniform(0.05, 0.95, size)
    return probability, (generator.random(size) < probability).astype(float)


def test_right_probabilities_have_slope_one_and_overconfident_ones_less():
    probability, label = drawn(4000)
    right = calibration_lines(label, probability, np.arange(4000))
    assert right.slope[1] < 1 < right.slope[2] and right.intercept[1] < 0 < right.intercept[2]
    bold = calibration_lines(label, 1 / (1 + np.exp(-2 * logit(probability) - 0.5)), np.arange(4000))
    assert bold.slope[0] == pytest.approx(right.slope[0] / 2, rel=0.01)
    assert bold.intercept[2] < 0


def test_ten_copies_of_a_case_do_not_narrow_the_slopes_interval():
    probability, label = drawn(200)
    once = calibration_lines(label, probability, np.arange(200)).slope
    copied = calibration_lines(*(np.repeat(v, 10) for v in (label, probability, np.arange(200)))).slope
    assert copied[0] == pytest.approx(once[0], abs=1e-6)
    assert copied[2] - copied[1] == pytest.approx(once[2] - once[1], rel=0.01)


def test_perfect_separation_has_no_slope():
    lines = calibration_lines(np.array([0, 0, 1, 1.0]), np.array([0.1, 0.2, 0.8, 0.9]), np.arange(4))
    assert np.isnan(lines.slope).all()


def test_bins_and_ece_by_hand():
    probability = np.array([0.1, 0.1, 0.3, 0.5, 0.7, 0.9])
    label = np.array([0, 1, 0, 1, 1, 1.0])
    mean, share, count = calibration_bins(label, probability, bins=3)
    np.testing.assert_allclose(mean, [0.1, 0.4, 0.8])
    np.testing.assert_allclose(share, [0.5, 0.5, 1.0])
    assert count.tolist() == [2, 2, 2]
    error = expected_calibration_error(label, probability, np.array([[1.0] * 6, [3, 3, 0, 0, 0, 0]]), bins=3)
    np.testing.assert_allclose(error, [(0.4 + 0.1 + 0.2) / 3, 0.4])


def test_the_calibration_error_of_right_probabilities_is_that_by_chance():
    """At 120 cases it is near 0.1, not 0; of probabilities that are wrong it lies above what chance gives."""
    generator, inside, found = np.random.default_rng(0), [], []
    for seed in range(200):
        probability, label = drawn(120, seed)
        error = expected_calibration_error(label, probability, np.ones((1, 120)))[0]
        low, high = np.percentile(calibration_error_by_chance(probability, seed, 200), [2.5, 97.5])
        inside.append(low <= error <= high)
        found.append(error)
    assert 0.08 < np.mean(found) < 0.12 and 0.90 <= np.mean(inside) <= 0.99
    probability, label = drawn(2000)
    wrong = probability**2
    error = expected_calibration_error(label, wrong, np.ones((1, 2000)))[0]
    assert error > 2 * np.percentile(calibration_error_by_chance(wrong, 0), 97.5)
    chance, slow = calibration_error_by_chance(probability[:60], 1).mean(), []
    for _ in range(500):
        label = (generator.random(60) < probability[:60]).astype(float)
        mean, share, count = calibration_bins(label, probability[:60])
        slow.append((np.abs(mean - share) * count).sum() / 60)
    assert chance == pytest.approx(np.mean(slow), rel=0.06)


def test_platts_calibration_mends_what_is_wrong_and_youden_finds_the_best_cut():
    probability, label = drawn(5000)
    squeezed = 1 / (1 + np.exp(-0.3 * logit(probability) + 1))
    point = choose_operating_point(squeezed, label)
    np.testing.assert_allclose(point.calibrate(squeezed), probability, atol=0.03)
    cuts = np.linspace(0.05, 0.95, 181)
    chosen, best = (
        max(
            np.mean(point.calibrate(squeezed)[label == 1] >= c) - np.mean(point.calibrate(squeezed)[label == 0] >= c)
            for c in at
        )
        for at in ([point.threshold], cuts)
    )
    assert chosen >= best - 1e-9


def test_calibration_never_turns_the_order_round():
    score = np.linspace(0.1, 0.9, 50)
    point = choose_operating_point(score, (score < 0.5).astype(float))
    assert (np.diff(point.calibrate(score)) > 0).all()
    assert point.calibrate(score).mean() == pytest.approx(0.5, abs=0.02)


def test_one_class_leaves_the_score_as_it_is():
    point = choose_operating_point(np.array([0.2, 0.6]), np.ones(2))
    np.testing.assert_allclose(point.calibrate(np.array([0.2, 0.6])), [0.2, 0.6])
    assert point.threshold == 0.5


def test_net_benefit_by_hand():
    label, probability = np.array([1, 1, 0, 0, 0.0]), np.array([0.9, 0.3, 0.6, 0.2, 0.1])
    weights = np.array([[1.0, 1, 1, 1, 1], [0, 2, 0, 1, 2]])
    at = np.array([0.25, 0.5])
    expected = [[2 / 5 - 1 / 5 / 3, 1 / 5 - 1 / 5], [2 / 5, 0]]
    np.testing.assert_allclose(net_benefit(label, probability, weights, at), expected, atol=1e-12)
    np.testing.assert_allclose(act_on_all(label, at), [0.4 - 0.6 / 3, 0.4 - 0.6])


def test_net_benefit_is_told_with_intervals_that_let_the_share_of_positives_vary():
    """Against samples drawn here case by case: of an arm, of acting on all, and with the sites kept apart."""
    probability, label = drawn(150, seed=3)
    fold = np.arange(150) % 3
    generator = np.random.default_rng(1)
    for within in (False, True):
        rows = Rows(label, np.arange(150), {"joint": probability}, {}, {}, fold, 150, within_folds=within)
        told = {(row["arm"], row["metric"]): row for row in decision_rows(rows, 0)}
        assert len(told) == 2 * len(TOLD) == 10
        strata = [np.flatnonzero(fold == one) for one in range(3)] if within else [np.arange(150)]
        samples = [np.concatenate([generator.choice(at, len(at)) for at in strata]) for _ in range(2000)]
        for threshold in TOLD:
            for arm, p in (("joint", probability), ("act on all", np.ones(150))):
                slow = []
                for index in [np.arange(150), *samples]:
                    acted = p[index] >= threshold
                    hits, alarms = (acted & (label[index] == kind) for kind in (1, 0))
                    slow.append(hits.mean() - alarms.mean() * threshold / (1 - threshold))
                row = told[arm, f"net_benefit@{threshold:.2f}"]
                assert row["value"] == pytest.approx(slow[0], abs=1e-12)
                expected = np.percentile(slow[1:], [2.5, 97.5])
                np.testing.assert_allclose([row["low"], row["high"]], expected, atol=0.02)
                assert row["low"] < row["value"] < row["high"]
