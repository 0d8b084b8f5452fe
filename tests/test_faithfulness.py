"""Heat on lesions against other patients' heat, pair by pair; a blob blind to the image, and heat that follows."""

import numpy as np
import pandas as pd
import pytest

from genomic_vit.data.grid import cut_stacks, stack_starts
from genomic_vit.evaluation.faithfulness import COLUMNS, heat_on_lesions, heat_rows

STRIDE, SIDE = 2, 16
Z, Y, X = np.indices((9, SIDE, SIDE))


def lesions(generator, cases, off_centre_px=0.0):
    """Balls in slabs of 9 to 20 slices: in the middle, as slabs are cut, or moved within the tile."""
    made = []
    for _ in range(cases):
        slices = int(generator.integers(9, 21))
        z, y, x = np.indices((slices, SIDE, SIDE))
        turn, middle = generator.uniform(0, 2 * np.pi), (SIDE - 1) / 2
        cy, cx = middle + off_centre_px * np.sin(turn), middle + off_centre_px * np.cos(turn)
        radius = generator.uniform(2, 4)
        made.append(((z - (slices - 1) / 2) / 1.5) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 <= radius**2)
    return made


def blob(cy, cx, width=3.0, over=0.1):
    """Heat of one stack, a hill in every slice, mean one."""
    heat = over + np.exp(-((Y - cy) ** 2 + (X - cx) ** 2) / 2 / width**2)
    return (heat / heat.mean()).astype(np.float32)


def repeated(lesion, heat):
    """The same heat in every strided stack of a slab."""
    return np.repeat(heat[None], len(stack_starts(len(lesion), STRIDE)), axis=0)


def hill(lesion, cy, cx):
    """Heat of all strided stacks of a slab: one hill at its middle slice."""
    z, y, x = np.indices(lesion.shape)
    heat = 0.1 + np.exp(-((z - (len(lesion) - 1) / 2) ** 2 + (y - cy) ** 2 + (x - cx) ** 2) / 2 / 3**2)
    return cut_stacks(heat.astype(np.float32), stack_starts(len(lesion), STRIDE))


def told(table, patients, fold=0):
    return {row["metric"]: row for row in heat_rows(table.assign(patient=patients, seed=0, fold=fold), "joint", 0)}


def by_loops(heats, inside, patients):
    """heat_on_lesions from its definition: one slice, stack, case and patient after the other."""

    def laid(heat, slices):
        starts = [*range(0, slices - 9, STRIDE), slices - 9]
        total, seen = np.zeros((slices, SIDE, SIDE)), np.zeros(slices)
        for place, start in enumerate(starts):
            depth = place / (len(starts) - 1) if len(starts) > 1 else 0.5
            for z in range(9):
                total[start + z] += heat[round(depth * (len(heat) - 1))][z]
                seen[start + z] += 1
        return np.stack([total[z] / seen[z] for z in range(slices)])

    def pair(giver, case):
        heat = laid(heats[giver], len(inside[case]))
        z, y, x = np.unravel_index(heat.argmax(), heat.shape)
        return np.array([heat[inside[case]].sum() / heat.sum(), float(inside[case][z, y, x])])

    rows = []
    for case, patient in enumerate(patients):
        others = [p for p in sorted(set(patients)) if p != patient]
        of, on = np.zeros(2), np.zeros(2)
        for other in others:
            theirs = [i for i, p in enumerate(patients) if p == other]
            of += np.mean([pair(i, case) for i in theirs], axis=0) / len(others)
            on += np.mean([pair(case, i) for i in theirs], axis=0) / len(others)
        share, hit = pair(case, case)
        rows.append([share, hit, inside[case].mean(), *of, *on])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_every_pair_is_what_loops_find():
    generator = np.random.default_rng(0)
    inside = lesions(generator, 9, off_centre_px=3)
    patients = np.array(["b", "a", "a", "c", "d", "b", "b", "e", "f"])
    heats = [generator.gamma(1, size=repeated(lesion, blob(8, 8)).shape).astype(np.float32) for lesion in inside]
    assert len({len(lesion) for lesion in inside}) > 3 and len({len(heat) for heat in heats}) > 2
    table = heat_on_lesions(heats, inside, patients, STRIDE)
    pd.testing.assert_frame_equal(table, by_loops(heats, inside, patients.tolist()), rtol=1e-5)


def test_blocks_of_heat_do_not_matter(monkeypatch):
    import genomic_vit.evaluation.faithfulness as faithfulness

    generator = np.random.default_rng(1)
    inside = lesions(generator, 10)
    heats = [generator.gamma(1, size=repeated(lesion, blob(8, 8)).shape) for lesion in inside]
    whole = heat_on_lesions(heats, inside, np.arange(10) // 2, STRIDE)
    monkeypatch.setattr(faithfulness, "BLOCK", 3)
    pd.testing.assert_frame_equal(heat_on_lesions(heats, inside, np.arange(10) // 2, STRIDE), whole)


def test_share_area_and_pointing_game_by_hand():
    inside = lesions(np.random.default_rng(2), 1)
    even = np.ones((1, 9, SIDE, SIDE))
    inside[0] = inside[0][:9]
    alone = np.array(["a"])
    first = heat_on_lesions([even], inside, alone, STRIDE).iloc[0]
    assert first["share"] == pytest.approx(inside[0].mean()) and first["area"] == pytest.approx(inside[0].mean())
    assert first[["share_of_others", "hit_of_others", "share_on_others", "hit_on_others"]].isna().all()
    for place, hit in ((tuple(np.argwhere(inside[0])[5]), 1), (tuple(np.argwhere(~inside[0])[5]), 0)):
        heat = even.copy()
        heat[0][place] = 100
        first = heat_on_lesions([heat], inside, alone, STRIDE).iloc[0]
        assert first["hit"] == hit
        assert first["share"] == pytest.approx((inside[0].sum() + 99 * hit) / (heat.size + 99))


def test_a_central_blob_that_never_saw_the_image_is_beyond_area_and_not_beyond_chance():
    """Heat that depends on the place in its stack alone: in the middle of every tile, and stronger in middle slices."""
    inside = lesions(np.random.default_rng(3), 40)
    one = blob(7.5, 7.5) * np.exp(-((Z - 4) ** 2) / 2 / 2**2).astype(np.float32)
    rows = told(heat_on_lesions([repeated(lesion, one) for lesion in inside], inside, np.arange(40), STRIDE), range(40))
    for what in ("heat_in_lesion", "pointing_game"):
        assert rows[f"{what}_beyond_area"]["low"] > 0.05
        for end in ("value", "low", "high"):
            assert rows[f"{what}_beyond_chance"][end] == pytest.approx(0, abs=1e-6)


def test_heat_that_follows_lesions_off_centre_is_beyond_chance():
    generator = np.random.default_rng(4)
    inside = lesions(generator, 40, off_centre_px=4)
    middles = [np.argwhere(lesion).mean(axis=0)[1:] for lesion in inside]
    follows = [hill(lesion, *middle) for lesion, middle in zip(inside, middles, strict=True)]
    rows = told(heat_on_lesions(follows, inside, np.arange(40), STRIDE), range(40))
    assert rows["heat_in_lesion_beyond_chance"]["low"] > 0.05
    assert rows["pointing_game_beyond_chance"]["low"] > 0.5
    elsewhere = middles[1:] + middles[:1]  # where another patient's lesion is, in this one's slab
    strays = [hill(lesion, *middle) for lesion, middle in zip(inside, elsewhere, strict=True)]
    rows = told(heat_on_lesions(strays, inside, np.arange(40), STRIDE), range(40))
    for what in ("heat_in_lesion", "pointing_game"):
        assert rows[f"{what}_beyond_chance"]["low"] < 0 < rows[f"{what}_beyond_chance"]["high"]


def test_intervals_of_heat_blind_to_the_image_hold_zero_as_often_as_they_say():
    """Hills of any sharpness near the middle, 100 cohorts: sharper ones lie on every lesion more, own or another's."""
    found = []
    for seed in range(100):
        generator = np.random.default_rng(seed)
        inside = [lesion[:9] for lesion in lesions(generator, 30)]
        places = generator.normal(7.5, 1.5, (30, 2))
        heats = [blob(*place, width=generator.uniform(1.5, 5))[None] for place in places]
        row = told(heat_on_lesions(heats, inside, np.arange(30), STRIDE), range(30))["heat_in_lesion_beyond_chance"]
        found.append([row["value"], row["low"], row["high"]])
    value, low, high = np.array(found).T
    assert 0.90 <= ((low <= 0) & (high >= 0)).mean() <= 0.99
    assert np.mean(high - low) / (2 * 1.96 * np.std(value)) == pytest.approx(1, abs=0.15)


def test_rows_are_means_over_patients_by_hand():
    table = pd.DataFrame(
        {
            "patient": ["a", "a", "b"],
            "share": [0.2, 0.4, 0.5],
            "hit": [1.0, 0.0, 1.0],
            "area": [0.1, 0.1, 0.3],
            "share_of_others": [0.1, 0.3, 0.4],
            "hit_of_others": [0.0, 1.0, 0.25],
            "share_on_others": [0.3, 0.5, 0.2],
            "hit_on_others": [0.0, 0.5, 0.5],
        }
    ).assign(seed=0, fold=0)
    rows = {row["metric"]: row for row in heat_rows(table, "joint", 0)}
    assert rows["heat_in_lesion"]["value"] == pytest.approx((0.3 + 0.5) / 2)
    assert rows["heat_in_lesion"]["low"] == pytest.approx(0.3) and rows["heat_in_lesion"]["high"] == pytest.approx(0.5)
    assert rows["heat_in_lesion_by_area"]["value"] == pytest.approx(0.2)
    assert rows["heat_in_lesion_beyond_area"]["value"] == pytest.approx((0.2 + 0.2) / 2)
    assert rows["heat_in_lesion_by_chance"]["value"] == pytest.approx((0.2 + 0.4) / 2)
    beyond = rows["heat_in_lesion_beyond_chance"]
    assert beyond["value"] == pytest.approx((0.3 - 0.2 + 0.5 - 0.4) / 2)
    # a: (0.3 - 0.25 - 0.35 + 0.35) 2 / 1, b: (0.5 - 0.45 - 0.35 + 0.35) 2 / 1: of two patients both weigh the same
    assert (beyond["low"], beyond["high"]) == (pytest.approx(0.1), pytest.approx(0.1))
    assert rows["pointing_game_beyond_chance"]["value"] == pytest.approx((0.5 - 0.5 + 1 - 0.25) / 2)
    assert all(row.get("patients", 2) == 2 for row in rows.values())


def test_networks_of_folds_and_seeds_are_told_apart():
    table = pd.DataFrame(
        [
            (seed, fold, f"{fold}{patient}", share, 0.0, 0.1, 0.2, 0.0, 0.2, 0.0)
            for (seed, fold), share in {(0, 0): 0.5, (0, 1): 0.1, (1, 0): 0.3, (1, 1): 0.2}.items()
            for patient in "ab"
        ],
        columns=["seed", "fold", "patient", *COLUMNS],
    )
    row = {row["metric"]: row for row in heat_rows(table, "joint", 0)}["heat_in_lesion_beyond_chance_of_networks"]
    assert [row[name] for name in ("value", "low", "high")] == pytest.approx([0.075, -0.1, 0.3])


def test_a_patient_alone_in_its_fold_has_no_chance_to_be_compared_with():
    inside = lesions(np.random.default_rng(5), 3)
    heats = [repeated(lesion, blob(7.5, 7.5)) for lesion in inside]
    alone = heat_on_lesions(heats[:1], inside[:1], np.array(["a"]), STRIDE).assign(patient="a", seed=0, fold=0)
    pair = heat_on_lesions(heats[1:], inside[1:], np.array(["b", "c"]), STRIDE).assign(
        patient=["b", "c"], seed=0, fold=1
    )
    rows = {row["metric"]: row for row in heat_rows(pd.concat([alone, pair]), "joint", 0)}
    assert rows["heat_in_lesion"]["patients"] == 3 and rows["heat_in_lesion_beyond_chance"]["patients"] == 2
    none = {row["metric"]: row for row in heat_rows(alone, "joint", 0)}["heat_in_lesion_beyond_chance"]
    assert none["patients"] == 0 and np.isnan(none["value"]) and none["note"] == "no patient has another in its fold"
