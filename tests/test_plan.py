"""What a benchmark config refuses, and what it selects."""

import numpy as np
import pytest

from genomic_vit.config import ConfigError
from genomic_vit.config_tree import from_tree
from genomic_vit.evaluation.arms import ARMS, NetworkArm, TableArm
from genomic_vit.evaluation.plan import BenchmarkConfig, members, quick
from genomic_vit.models.heat_sources import HEAT_SOURCES
from genomic_vit.training.stages import schedule
from tests.benchmark_cohort import category, number


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"arms": ("joint", "radiomix-lr")}, r"unknown arm 'radiomix-lr'; did you mean 'radiomics-lr'\?"),
        ({"arms": ("joint", "xyz")}, "unknown arm 'xyz'; known: joint, "),
        ({"arms": ("joint", "size", "size")}, "arms names something twice"),
        ({"arms": ("cnn", "size")}, "reference 'joint' is not among the arms"),
        ({"arms": ("cnn", "swap-zero"), "reference": "cnn"}, "'swap-zero' swaps the heat of 'joint', which is not"),
        ({"arms": ()}, "arms is empty"),
        ({"folds": 1}, "folds is 1; at least 2"),
        ({"seeds": ()}, r"seeds is \(\); give one or more"),
        ({"unit": "lesion"}, "unit is 'lesion'; it must be patient or case"),
        ({"minimum": 1}, "minimum is 1"),
        ({"lesion_weight": 0.0}, "lesion_weight is 0.0; it must be positive"),
        *(
            (
                {"subgroups": (text,)},
                rf"subgroup '{text}' is no condition; write name=value, or name, one of < <= > >= and a number$",
            )
            for text in ("women", "sex!=F", "age=<5", "sex==F", "<5", "age<")
        ),
        ({"run": from_tree({"split": {"fold": 2}}, "x")}, "run.split.folds and run.split.fold are the benchmark's"),
        ({"run": from_tree({"mode": "staged"}, "x")}, "run.mode and run.training.lesion_weight are set by the arms"),
    ],
)
def test_an_impossible_benchmark_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        BenchmarkConfig(**given)


def test_conditions_select_cases_and_never_missing_ones():
    covariates = (number("age", [50, 65, np.nan, 70]), category("sex", ["F", "M", "", "F"]))
    assert members("age>=65", covariates).tolist() == [False, True, False, True]
    assert members("age < 65", covariates).tolist() == [True, False, False, False]
    assert members("age=70", covariates).tolist() == [False, False, False, True]
    assert members("age<=65", covariates).tolist() == [True, True, False, False]
    assert members("age>65", covariates).tolist() == [False, False, False, True]
    assert members("sex=F", covariates).tolist() == [True, False, False, True]
    with pytest.raises(ConfigError, match=r"'size<3': there is no covariate 'size' \(declared: age, sex\); declare it"):
        members("size<3", covariates)
    with pytest.raises(ConfigError, match="sex is a category; write sex=3"):
        members("sex<3", covariates)
    with pytest.raises(ConfigError, match="'old' is no number"):
        members("age=old", covariates)


def test_a_rehearsal_is_shorter_in_every_way():
    short = quick(BenchmarkConfig(seeds=(3, 4), folds=5))
    assert short.seeds == (3,) and short.folds == 3 and short.run.training.epochs == 8
    assert "joint" in short.arms and "swap-zero" in short.arms and "heat-zero" not in short.arms


def test_every_arm_can_be_trained_by_what_it_names():
    training = BenchmarkConfig().run.training
    for arm in ARMS.values():
        if isinstance(arm, NetworkArm):
            assert schedule(arm.mode, training)[-1].judged_by == arm.answer
        if not isinstance(arm, TableArm):
            assert arm.heat in HEAT_SOURCES


def test_covariates_asked_for_are_named_once():
    config = BenchmarkConfig(clinical=("age",), acquisition=("kernel",), site="kernel", subgroups=("age<60", "sex=F"))
    assert config.covariates == ("age", "kernel", "sex")
