"""A part's key changes with all that its numbers depend on, and with nothing else."""

import dataclasses

import numpy as np
import pytest

from genomic_vit.comparison.part import Part
from genomic_vit.comparison.part_key import ELSEWHERE, LEARNING
from genomic_vit.comparison.study import plan_study
from genomic_vit.config import RunConfig
from genomic_vit.evaluation.arms import ARMS, SwapArm
from genomic_vit.evaluation.plan import BenchmarkConfig
from tests.benchmark_cohort import RUN, bright_cohort, category, number, small_run

AGE, KERNEL = number("age", np.arange(24.0)), category("kernel", ["B30f", "B50f"] * 12)
PREPARED = bright_cohort(24, covariates=(AGE, KERNEL))
GIVEN = {"arms": ("joint", "cnn", "clinical", "size"), "folds": 3, "clinical": ("age",)}
JOINT, CNN, CLINICAL, SIZE = (Part(arm, 1, 0) for arm in GIVEN["arms"])
ALL = (JOINT, CNN, CLINICAL, SIZE)


def keys(parts=ALL, prepared=PREPARED, run=RUN, **changes):
    config = BenchmarkConfig(**(GIVEN | {"run": small_run(**run)} | changes))
    study = plan_study(config, prepared)[0]
    return [part.key(study) for part in parts]


KEYS = keys()


def test_every_setting_of_a_run_is_in_the_key_or_is_known_not_to_be():
    assert sorted((*LEARNING, *ELSEWHERE)) == sorted(field.name for field in dataclasses.fields(RunConfig))
    assert len(set(KEYS)) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"run": RUN | {"data": "elsewhere/cases.csv", "target": "mutant"}},
        {"run": RUN | {"device": "auto"}},
        {"run": RUN | {"labels": {"covariates": {"sex": {"column": "sex"}}, "min_cases": 3}}},
        {"run": RUN | {"positive": "yes", "negative": "no"}},
        {"run": RUN | {"scan": {"on_gap": "resample"}, "lesion": {"roi": "GTV"}}},  # as long as no voxel changes
        {"subgroups": ("kernel=B30f", "age<9"), "minimum": 4},
        {"acquisition": ("kernel",)},
        {"arms": (*GIVEN["arms"], "site", "staged", "swap-zero"), "acquisition": ("kernel",)},
        {"seeds": (0, 1), "unit": "case", "reference": "cnn", "lesion_weight": 0.7},
    ],
)
def test_what_changes_no_number_keeps_finished_parts(changes):
    assert keys(**changes) == KEYS


def test_more_covariates_keep_finished_parts():
    cohort = dataclasses.replace(PREPARED.cohort, covariates=(AGE, KERNEL, category("sex", ["F", "M", "M"] * 8)))
    assert keys(prepared=dataclasses.replace(PREPARED, cohort=cohort), subgroups=("sex=F",)) == KEYS


@pytest.mark.parametrize(
    "changes",
    [
        {"slab": {"tile_px": 16, "crop_mm": 30.0}},
        {"view": {"eval_flips": False, "eval_stride": 3}},
        {"view": {"eval_flips": False, "window_hu": [-115, 235]}},
        {"augment": {"rotate_deg": 10.0}},
        {"vit": RUN["vit"] | {"registers": 1}},
        {"rollout": {"residual": 0.6}},
        {"cnn": {"dropout": 0.3}},
        {"training": {"epochs": 2}},
        {"training": {"epochs": 1, "learning_rate": 1e-3}},
    ],
)
def test_settings_of_networks_change_the_keys_of_networks_alone(changes):
    changed = keys(run=RUN | changes)
    assert changed[0] != KEYS[0] and changed[1] != KEYS[1] and changed[2:] == KEYS[2:]


def test_the_share_to_choose_by_changes_every_key():
    assert not set(keys(run=RUN | {"split": {"validation": 0.25}})) & set(KEYS)


def test_arm_fold_and_seed_change_the_key():
    assert not set(keys((*(dataclasses.replace(part, fold=2) for part in ALL),))) & set(KEYS)
    assert not set(keys((*(dataclasses.replace(part, seed=1) for part in ALL),))) & set(KEYS)
    lesion, arms = Part("joint+lesion", 1, 0), (*GIVEN["arms"], "joint+lesion")
    one, other = (keys((lesion,), arms=arms, lesion_weight=weight)[0] for weight in (0.3, 0.7))
    assert len({one, other, KEYS[0]}) == 3


@pytest.mark.parametrize("changed", ["voxel", "outline", "label", "patient", "target", "folds"])
def test_data_change_every_key(changed):
    cohort, slabs, changes = PREPARED.cohort, list(PREPARED.slabs), {}
    if changed == "voxel":
        hu = slabs[7].hu.copy()
        hu[0, 0, 0] += 1
        slabs[7] = dataclasses.replace(slabs[7], hu=hu)
    elif changed == "outline":
        lesion = slabs[7].lesion.copy()
        lesion[4, 0, 0] = True
        slabs[7] = dataclasses.replace(slabs[7], lesion=lesion)
    elif changed == "label":
        labels = cohort.labels.copy()
        labels[7] = np.nan
        cohort = dataclasses.replace(cohort, labels=labels)
    elif changed == "patient":
        cases = (dataclasses.replace(cohort.cases[0], patient="another"), *cohort.cases[1:])
        cohort = dataclasses.replace(cohort, cases=cases)
    elif changed == "target":
        cohort = dataclasses.replace(cohort, targets=("EGFR",))
    else:
        changes = {"run": RUN | {"seed": 1}}
    again = keys(prepared=dataclasses.replace(PREPARED, cohort=cohort, slabs=slabs), **changes)
    assert not set(again) & set(KEYS)


def test_a_table_s_columns_change_the_key_of_its_arm_alone():
    assert [a == b for a, b in zip(keys(clinical=("age", "kernel")), KEYS, strict=True)] == [True, True, False, True]


def test_another_swap_asks_its_network_again_and_other_words_do_not(monkeypatch):
    monkeypatch.setitem(ARMS, "joint", dataclasses.replace(ARMS["joint"], says="in other words"))
    assert keys() == KEYS
    monkeypatch.setitem(ARMS, "swap-noise", SwapArm("swap-noise", "with noise as heat", "uniform"))
    assert [a == b for a, b in zip(keys(), KEYS, strict=True)] == [False, True, True, True]


def test_pretrained_weights_count_by_their_content(tmp_path):
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(content)

    def given(name):
        return keys((JOINT,), run=RUN | {"model": {"pretrained": str(tmp_path / name)}})[0]

    assert given("a") == given("b") != given("c")
    assert len({given("a"), given("none"), KEYS[0]}) == 3
