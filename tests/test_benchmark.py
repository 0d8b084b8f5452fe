"""The benchmark compares fairly: same folds for all arms, heat swapped, sites held out, numbers told, refusals."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from genomic_vit.cohort.folds import assign_folds
from genomic_vit.cohort.manifest import Cohort, ManifestError
from genomic_vit.comparison.files import write_report
from genomic_vit.comparison.part import Part, part_split
from genomic_vit.comparison.study import BenchmarkError, plan_study
from genomic_vit.config import ConfigError
from genomic_vit.data.prepare import Prepared
from genomic_vit.evaluation.arms import ARMS as KNOWN_ARMS
from genomic_vit.evaluation.held_out import FoldError
from genomic_vit.evaluation.inference import case_probabilities, stack_heat
from genomic_vit.evaluation.known import learnt_from
from genomic_vit.evaluation.leakage import LeakError
from genomic_vit.evaluation.out_of_fold import INNER, OUTER
from genomic_vit.evaluation.plan import BenchmarkConfig
from genomic_vit.evaluation.report import print_table
from genomic_vit.run_benchmark import compare_cohort
from genomic_vit.training.run_folder import RunFolder
from tests.benchmark_cohort import ARMS, CONFIG, PREPARED, bright_cohort, category, small_run, with_covariates


def scores(out, arm, fold, part=OUTER):
    frame = pd.read_csv(out / "parts" / arm / f"seed_0_fold_{fold}" / "scores.csv")
    return frame[frame["part"] == part]


def test_all_arms_are_tested_on_the_same_cases_and_learn_from_none_of_their_patients(compared):
    _, out = compared
    expected = assign_folds(PREPARED.cohort, 2, 0)
    patient_of = {case.case: case.patient for case in PREPARED.cohort.cases}
    for arm in ("joint", "cnn", "heat-zero", "clinical", "size"):
        for fold in range(2):
            tested = scores(out, arm, fold)
            held_out = {case.case for case, f in zip(PREPARED.cohort.cases, expected, strict=True) if f == fold}
            for name in set(tested["arm"]):
                assert set(tested[tested["arm"] == name]["case"]) == held_out
            inner = {patient_of[case] for case in scores(out, arm, fold, INNER)["case"]}
            assert not inner & {patient_of[case] for case in held_out}
    predictions = pd.read_csv(out / "predictions.csv")
    assert predictions["fold"].tolist() == expected.tolist()
    assert predictions[list(ARMS)].notna().all(axis=None) and predictions[list(ARMS)].stack().between(0, 1).all()


def test_what_the_report_says_of_whom_arms_learn_from_is_what_they_learn_from(compared):
    """By the cases whose scores calibrate: a network's are those it did not learn from, a model's those it did."""
    _, out = compared
    study = plan_study(CONFIG, PREPARED)[0]
    split, names = part_split(study, Part("joint", 0, 0)), [case.case for case in PREPARED.cohort.cases]
    kept, learnt = ({names[i] for i in part} for part in (split.validation, split.train))
    for arm in ("joint", "cnn", "heat-zero"):
        assert set(scores(out, arm, 0, INNER)["case"]) == kept
    for arm in ("clinical", "size"):
        assert set(scores(out, arm, 0, INNER)["case"]) == kept | learnt
    assert learnt_from(CONFIG) == (
        "All arms are tested on the same held-out patients. Of the others networks learn from 2 in 3; the rest chooses "
        "the epoch, calibration and threshold. Arms without a network learn from all of the others (1.50 times as "
        "many) and take calibration and threshold from them: models by scores of a cross-validation among them, size "
        "as it is."
    )
    patients = [len(set(PREPARED.cohort.patients[part])) for part in (split.train, split.validation)]
    assert sum(patients) == 10 and abs(patients[0] - 10 * 2 / 3) < 1


def test_swapped_heat_is_the_trained_network_with_that_heat(compared):
    _, out = compared
    study = plan_study(CONFIG, PREPARED)[0]
    split = part_split(study, Part("joint", 1, 0))
    model = RunFolder(out / "parts/joint/seed_0_fold_1").load_model(torch.device("cpu"))
    slabs, view = [PREPARED.slabs[i] for i in split.test], CONFIG.run.view
    heat = stack_heat(model, slabs, view, torch.device("cpu"))
    told = scores(out, "joint", 1)
    for arm, given in (("joint", None), ("swap-zero", np.zeros_like(heat)), ("swap-uniform", np.ones_like(heat))):
        expected = case_probabilities(model, slabs, view, torch.device("cpu"), given=given)[:, 0]
        np.testing.assert_allclose(told[told["arm"] == arm]["mutant"], expected, atol=1e-5)


def test_every_number_is_in_the_files_and_the_report_needs_nothing_else(compared):
    found, out = compared
    results = pd.read_csv(out / "results.csv")
    same = [frame.fillna({"note": ""}) for frame in (results, found.results)]
    pd.testing.assert_frame_equal(*same, check_dtype=False)
    main = results[(results["group"] == "all") & (results["unit"] == "patient") & (results["target"] == "mutant")]
    assert set(main[main["metric"] == "auc"]["arm"]) == set(ARMS)
    assert {"brier", "calibration_slope", "expected_calibration_error", "auc_difference"} <= set(main["metric"])
    error = main[main["metric"] == "expected_calibration_error"]
    by_chance = main[main["metric"] == "expected_calibration_error_by_chance"]
    assert error[["low", "high"]].isna().all(axis=None) and set(by_chance["arm"]) == set(ARMS)
    assert ((by_chance["low"] > 0) & (by_chance["low"] < by_chance["high"])).all()
    benefit = main[main["metric"] == "net_benefit@0.20"]
    assert set(benefit["arm"]) == {*ARMS, "act on all"} and benefit[["value", "low", "high"]].notna().all(axis=None)
    assert set(main["cases"].dropna()) == {40} and set(main["patients"].dropna()) == {20}
    heat = results[results["target"] == "heat"]
    assert set(heat["arm"]) == {"joint"}
    assert {"heat_in_lesion_beyond_chance", "heat_in_lesion_beyond_area", "pointing_game_beyond_chance"} <= set(
        heat["metric"]
    )
    page = write_report(found, out).read_text()
    for needed in (
        "Flow of cases",
        "rows of the manifest",
        "Reporting checklist",
        "Heat examples",
        "best: case",
        "worst: case",
        "net benefit at threshold",
        "ECE by chance",
        "act on all",
    ):
        assert needed in page
    assert page.count(learnt_from(CONFIG)) == 2  # beside the arms, and in the checklist
    assert "whether the heat helps" in page or "the heat hurts" in page or "the heat helps" in page
    assert 'src="http' not in page and "<link" not in page and "<script" not in page
    assert page.count("data:image/png;base64,") == 3 and page.count("data:image/svg+xml;base64,") == 2


def test_a_planted_site_is_found_and_falls_when_sites_are_held_out(tmp_path):
    """Each hospital has its own share of positives, and A and B add 60 HU to every voxel; nothing else tells the label.

    Within a hospital the arm `site` has one answer for all. That of radiomics differs from scan to scan: it may be off
    0.5 by chance, as one interval in twenty is (25 draws of labels and hospitals had a mean of 0.49, SD 0.09).
    """
    prepared = bright_cohort(80, contrast_hu=0, seed=2)
    label, generator = prepared.cohort.labels[:, 0], np.random.default_rng(2)
    rich = generator.random(80) < np.where(label == 1, 0.85, 0.15)
    hospital = np.where(rich, generator.choice(["A", "B"], 80), generator.choice(["C", "D"], 80)).tolist()
    cohort = dataclasses.replace(prepared.cohort, covariates=(category("hospital", hospital),))
    slabs = [
        dataclasses.replace(slab, hu=slab.hu + np.float32(60 * shift))
        for slab, shift in zip(prepared.slabs, rich, strict=True)
    ]
    arms = ("site", "radiomics-lr", "size")
    given = {"run": small_run(), "arms": arms, "reference": "size", "acquisition": ("hospital",)}

    def told(config, out):
        found, failed = compare_cohort(config, dataclasses.replace(prepared, cohort=cohort, slabs=slabs), out, jobs=1)
        assert not failed
        rows = found.results[(found.results["unit"] == "patient") & (found.results["metric"] == "auc")].set_index("arm")
        return rows, found

    by_fold, _ = told(BenchmarkConfig(**given), tmp_path / "folds")
    by_site, found = told(BenchmarkConfig(**given, site="hospital"), tmp_path / "sites")
    assert found.fold_names == ("hospital A", "hospital B", "hospital C", "hospital D")
    for arm in ("site", "radiomics-lr"):
        assert by_fold.loc[arm, "low"] > 0.6
        assert by_site.loc[arm, "value"] < by_fold.loc[arm, "value"] - 0.2
    assert by_fold.loc["size", "low"] < 0.5 < by_fold.loc["size", "high"]
    for arm in arms:
        assert by_site.loc[arm, "low"] <= 0.5 <= by_site.loc[arm, "high"]
    answers = pd.read_csv(tmp_path / "sites/predictions.csv").groupby("fold")
    assert (answers["radiomics-lr"].nunique() == answers.size()).all() and (answers["site"].nunique() == 1).all()
    page = write_report(found, tmp_path / "sites").read_text()
    assert "rank patients of the same held-out site" in page and "over pairs within a site" in page
    assert "AUC over pairs of the same hospital" in print_table(found.results, found.config)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"folds": 30}, FoldError, r"^20 patients cannot make 30 folds; use --folds 20 or fewer, or add patients\.$"),
        (
            {"clinical": ("weight",)},
            ConfigError,
            r"there is no covariate 'weight' \(declared: age, kernel, one, hospital\)",
        ),
        ({"acquisition": ("one",)}, ManifestError, "covariate 'one' is x in every case"),
        ({"site": "hospital"}, ManifestError, "site 'lone' of 'hospital' has one patient"),
        (
            {"site": "kernel", "run": small_run(split={"validation": 0.49})},
            FoldError,
            r"^kernel B30f held out, seed 0: target 'mutant': the train part has \d+ positive and 0 negative cases, "
            r"both are needed\. Merge sites in the column of 'kernel', or leave site out to compare by folds\.$",
        ),
        ({"arms": ("joint", "size"), "subgroups": ("age=old",)}, ConfigError, "'old' is no number"),
        (
            {"reference": "clinical", "clinical": ()},
            BenchmarkError,
            r"the reference 'clinical' cannot be fed: no covariates are named in clinical\. Mend that, or choose "
            r"another --reference among joint, cnn, heat-zero, swap-zero, swap-shuffled, size\.",
        ),
        (
            {"arms": ("clinical", "site"), "reference": "site", "clinical": (), "acquisition": ()},
            BenchmarkError,
            r"no arm can be fed \(clinical: no covariates are named in clinical; site: no covariates are named in "
            r"acquisition\)\. Name covariates for them, or compare other arms \(--arms\)\.",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_before_training(change, error, message, tmp_path):
    prepared = with_covariates()
    cohort = prepared.cohort
    hospital = ["lone"] * 2 + ["A"] * 18 + ["B"] * 20
    covariates = (*cohort.covariates, category("one", ["x"] * 40), category("hospital", hospital))
    labels = cohort.labels
    if change.get("site") == "kernel":  # every positive was scanned with one kernel
        labels = np.repeat(np.arange(20) % 2, 2)[:, None].astype(float)
    cohort = dataclasses.replace(cohort, covariates=covariates, labels=labels)
    with pytest.raises(error, match=message):
        compare_cohort(
            dataclasses.replace(CONFIG, **change), dataclasses.replace(prepared, cohort=cohort), tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_a_planted_leak_stops_the_run(tmp_path):
    slabs = [PREPARED.slabs[0] if i == 30 else slab for i, slab in enumerate(PREPARED.slabs)]
    folds = assign_folds(PREPARED.cohort, 2, 0)
    other = int(np.flatnonzero(folds != folds[0])[0])
    slabs = [PREPARED.slabs[0] if i == other else slab for i, slab in enumerate(PREPARED.slabs)]
    with pytest.raises(LeakError, match="near-duplicates"):
        compare_cohort(CONFIG, Prepared(PREPARED.cohort, slabs, ()), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_arms_that_the_cohort_cannot_feed_are_left_out_and_said_so(tmp_path):
    slabs = [dataclasses.replace(PREPARED.slabs[0], diameter_mm=np.nan), *PREPARED.slabs[1:]]
    config = dataclasses.replace(
        CONFIG, clinical=(), acquisition=("kernel",), arms=("site", "clinical", "size"), reference="site"
    )
    found, _ = compare_cohort(config, Prepared(PREPARED.cohort, slabs, ()), tmp_path, jobs=1)
    assert dict(found.left_out) == {
        "clinical": "no covariates are named in clinical",
        "size": "not every lesion has an outline",
    }
    assert not found.warnings


def test_arms_that_are_shown_the_outline_are_left_out_where_one_is_a_point():
    slabs = [dataclasses.replace(PREPARED.slabs[0], diameter_mm=np.nan), *PREPARED.slabs[1:]]
    config = dataclasses.replace(CONFIG, arms=tuple(KNOWN_ARMS), acquisition=("kernel",))
    assert plan_study(config, PREPARED)[2] == []
    _, _, left_out, warnings = plan_study(config, dataclasses.replace(PREPARED, slabs=slabs))
    expected = ("joint+lesion", "heat-lesion", "swap-lesion", "radiomics-lr", "radiomics-rf", "size")
    assert left_out == [(name, "not every lesion has an outline") for name in expected]
    assert warnings == [
        "1 of 40 lesions have no outline (points, boxes, whole lungs): where heat lies is told of the ball, box or "
        "lungs in its place"
    ]


def test_several_targets_are_one_model_with_a_mean(tmp_path):
    labels = np.repeat(PREPARED.cohort.labels, 2, axis=1)
    labels[:8, 1] = np.nan
    cohort = Cohort(PREPARED.cohort.cases, ("a", "b"), labels)
    config = BenchmarkConfig(run=small_run(target="a,b", data="x"), arms=("joint", "size"), folds=2)
    found, failed = compare_cohort(config, Prepared(cohort, PREPARED.slabs, ()), tmp_path, jobs=1)
    assert not failed
    auc = found.results[(found.results["metric"] == "auc") & (found.results["unit"] == "patient")]
    assert set(auc["target"]) == {"a", "b", "macro mean"} and len(auc) == 6
    assert "Mean over targets" in write_report(found, tmp_path).read_text()
