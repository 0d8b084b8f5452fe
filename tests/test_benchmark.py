"""The benchmark as a machine: same folds for all arms, parts kept and told, heat swapped, sites held out, refusals."""

import csv
import dataclasses
import logging
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from genomic_vit import read_scan
from genomic_vit.benchmark import main as benchmark
from genomic_vit.cohort.folds import assign_folds
from genomic_vit.cohort.manifest import Cohort, ManifestError
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
from genomic_vit.imaging.volume import Volume
from genomic_vit.imaging.write import write_volume
from genomic_vit.run_benchmark import compare_cohort
from genomic_vit.run_part import Outcome, Part, part_split
from genomic_vit.run_parts import Clock
from genomic_vit.run_report import write_report
from genomic_vit.study import BenchmarkError, plan_study
from genomic_vit.training.run_folder import RunFolder
from tests.benchmark_cohort import bright_cohort, category, number, small_run

ARMS = ("joint", "cnn", "heat-zero", "swap-zero", "swap-shuffled", "clinical", "size")


def with_covariates(patients=20, lesions=2):
    """A cohort with an age, a kernel, and two lesions a patient."""
    cases = patients * lesions
    age = np.repeat(np.random.default_rng(3).normal(60, 9, patients), lesions)
    kernel = np.repeat(np.array(["B30f", "B50f"] * (patients // 2)), lesions).tolist()
    assert len(age) == cases
    return bright_cohort(patients, lesions, covariates=(number("age", age), category("kernel", kernel)))


PREPARED = with_covariates()
CONFIG = BenchmarkConfig(
    run=small_run(),
    arms=ARMS,
    folds=2,
    clinical=("age",),
    acquisition=("kernel",),
    subgroups=("kernel=B30f",),
    minimum=8,
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark")
    found, failed = compare_cohort(CONFIG, PREPARED, out, unlabelled=2, jobs=1)
    assert not failed
    return found, out


def scores(out, arm, fold, part=OUTER):
    frame = pd.read_csv(out / "parts" / arm / f"seed_0_fold_{fold}" / "scores.csv")
    return frame[frame["part"] == part]


def test_all_arms_are_tested_on_the_same_cases_and_learn_from_none_of_their_patients(ran):
    _, out = ran
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


def test_what_the_report_says_of_whom_arms_learn_from_is_what_they_learn_from(ran):
    """By the cases whose scores calibrate: a network's are those it did not learn from, a model's those it did."""
    _, out = ran
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


def test_swapped_heat_is_the_trained_network_with_that_heat(ran):
    _, out = ran
    study = plan_study(CONFIG, PREPARED)[0]
    split = part_split(study, Part("joint", 1, 0))
    model = RunFolder(out / "parts/joint/seed_0_fold_1").load_model(torch.device("cpu"))
    slabs, view = [PREPARED.slabs[i] for i in split.test], CONFIG.run.view
    heat = stack_heat(model, slabs, view, torch.device("cpu"))
    told = scores(out, "joint", 1)
    for arm, given in (("joint", None), ("swap-zero", np.zeros_like(heat)), ("swap-uniform", np.ones_like(heat))):
        expected = case_probabilities(model, slabs, view, torch.device("cpu"), given=given)[:, 0]
        np.testing.assert_allclose(told[told["arm"] == arm]["mutant"], expected, atol=1e-5)


def test_every_number_is_in_the_files_and_the_report_needs_nothing_else(ran):
    found, out = ran
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


def test_finished_parts_are_kept_and_others_are_run(ran, tmp_path, caplog):
    _, before = ran
    out = tmp_path / "again"
    shutil.copytree(before, out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("done.json")}
    more = dataclasses.replace(CONFIG, arms=(*ARMS, "site"), clinical=("age", "kernel"))
    with caplog.at_level(logging.INFO):
        found, failed = compare_cohort(more, PREPARED, out, jobs=1)
    assert not failed and "8 of 12 parts are kept from before" in caplog.text
    assert f"2 parts in {out} were made with other settings or data, and are replaced one by one" in caplog.text
    again = {path for path in times if path.stat().st_mtime_ns != times[path]}
    assert {path.parent.parent.name for path in again} == {"clinical"}
    assert "site" in {arm.arm for arm in found.arms}


@pytest.fixture
def old_heat(ran, tmp_path):
    """The finished parts of `ran`, the heat of joint told in the form of an earlier version; its training is costly."""
    out = tmp_path / "old"
    shutil.copytree(ran[1], out)
    for fold in range(2):
        table = pd.read_csv(out / f"parts/joint/seed_0_fold_{fold}/heat.csv")
        table[["case", "share", "area", "hit"]].to_csv(out / f"parts/joint/seed_0_fold_{fold}/heat.csv", index=False)
    return out


def contents(out):
    """Every file of the parts, bytes and time."""
    files = [path for path in (out / "parts").rglob("*") if path.is_file()]
    return {str(path.relative_to(out)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_heat_of_an_older_form_is_told_again_by_the_kept_network_and_nothing_is_trained(
    ran, old_heat, monkeypatch, caplog
):
    import genomic_vit.run_part as parts

    def refuse(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(parts, "fit", refuse)
    monkeypatch.setattr(parts, "fit_and_score", refuse)
    before = contents(old_heat)
    with caplog.at_level(logging.INFO):
        found, failed = compare_cohort(CONFIG, PREPARED, old_heat, jobs=1)
    assert not failed and "10 of 10 parts are kept from before" in caplog.text
    assert "2 of them do not tell where the heat lies: asked again, nothing of them is trained" in caplog.text
    after = contents(old_heat)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed == {f"parts/joint/seed_0_fold_{fold}/heat.csv" for fold in range(2)}
    for fold in range(2):
        tables = [pd.read_csv(out / f"parts/joint/seed_0_fold_{fold}/heat.csv") for out in (ran[1], old_heat)]
        pd.testing.assert_frame_equal(*tables)
    pd.testing.assert_frame_equal(found.results, ran[0].results)


def test_where_the_kept_network_is_gone_its_scores_stay_and_its_heat_is_left_out(old_heat, caplog):
    weights = old_heat / "parts/joint/seed_0_fold_1/model.safetensors"
    weights.unlink()
    found, failed = compare_cohort(CONFIG, PREPARED, old_heat, jobs=1)
    assert [str(outcome.part) for outcome in failed] == ["joint, fold 1, seed 0"]
    assert "model.safetensors: missing, so where its heat lies cannot be told. Put the file back" in failed[0].reason
    assert "joint" in {arm.arm for arm in found.arms} and not (found.results["target"] == "heat").any()
    left_out = "Where the heat of joint lies is left out, since parts do not tell it: joint, fold 1, seed 0."
    assert left_out in found.warnings
    (old_heat / "parts/joint/seed_0_fold_0/model.safetensors").unlink()
    page = write_report(found, old_heat).read_text()
    assert left_out in page and "Heat examples" not in page and "Where the heat lies" not in page
    assert "the report lacks the best example of heat: joint, fold" in caplog.text


def test_the_vits_own_arm_tells_its_heat_again_too(tmp_path, monkeypatch):
    import genomic_vit.run_part as parts

    config = dataclasses.replace(CONFIG, arms=("vit",), reference="vit", subgroups=())
    found, failed = compare_cohort(config, PREPARED, tmp_path, jobs=1)
    assert not failed and set(found.results[found.results["target"] == "heat"]["arm"]) == {"vit"}
    (tmp_path / "parts/vit/seed_0_fold_0/heat.csv").unlink()
    monkeypatch.setattr(parts, "fit", None)
    again, failed = compare_cohort(config, PREPARED, tmp_path, jobs=1)
    assert not failed
    pd.testing.assert_frame_equal(again.results, found.results)


def test_a_failed_part_is_named_and_the_rest_goes_on(tmp_path, monkeypatch, caplog):
    import genomic_vit.run_part as parts

    real = parts.fit_and_score
    config = dataclasses.replace(CONFIG, arms=("radiomics-lr", "size"), reference="size", subgroups=())

    def broken(estimator, table, label, patients, learning, testing, seed):
        if "volume_mm3" in table and 0 in testing:
            raise RuntimeError("no room")
        return real(estimator, table, label, patients, learning, testing, seed)

    monkeypatch.setattr(parts, "fit_and_score", broken)
    fold = int(assign_folds(PREPARED.cohort, 2, 0)[0])
    with caplog.at_level(logging.INFO):
        found, failed = compare_cohort(config, PREPARED, tmp_path, jobs=1)
    assert [str(outcome.part) for outcome in failed] == [f"radiomics-lr, fold {fold}, seed 0"]
    assert "FAILED: RuntimeError: no room" in caplog.text
    assert [arm.arm for arm in found.arms] == ["size"]
    assert found.left_out == (("radiomics-lr", f"parts failed: radiomics-lr, fold {fold}, seed 0"),)
    assert "no room" in (tmp_path / f"parts/radiomics-lr/seed_0_fold_{fold}/error.txt").read_text()
    monkeypatch.setattr(parts, "fit_and_score", real)
    found, failed = compare_cohort(config, PREPARED, tmp_path, jobs=1)
    assert not failed and len(found.arms) == 2


def test_where_the_reference_failed_no_other_arm_is_called_so(tmp_path, monkeypatch, caplog):
    import genomic_vit.run_part as parts

    real = parts.fit_and_score

    def broken(estimator, table, *given):
        if "volume_mm3" in table:
            raise RuntimeError("no room")
        return real(estimator, table, *given)

    monkeypatch.setattr(parts, "fit_and_score", broken)
    arms = ("radiomics-lr", "size", "clinical")
    config = dataclasses.replace(CONFIG, arms=arms, reference="radiomics-lr")
    found, failed = compare_cohort(config, PREPARED, tmp_path, jobs=1)
    said = (
        "the reference radiomics-lr is missing (parts failed: radiomics-lr, fold 0, seed 0; radiomics-lr, fold 1, seed "
        "0): no differences from it are given. Run the same command again, or choose another --reference."
    )
    assert found.warnings[0] == said and said in caplog.text and len(failed) == 2
    page, table = write_report(found, tmp_path).read_text(), print_table(found.results, config)
    assert f'<p class="warning">{said}</p>' in page and ">reference<" not in page
    assert "reference" not in table and table.count("  –") == 2
    assert "auc_difference" not in set(found.results["metric"])


def test_a_planted_site_is_found_and_falls_when_sites_are_held_out(tmp_path):
    """Each hospital has its own share of positives; nothing else tells the label."""
    prepared = bright_cohort(80, contrast_hu=0)
    label, generator = prepared.cohort.labels[:, 0], np.random.default_rng(0)
    rich = generator.random(80) < np.where(label == 1, 0.85, 0.15)
    hospital = np.where(rich, generator.choice(["A", "B"], 80), generator.choice(["C", "D"], 80)).tolist()
    cohort = dataclasses.replace(prepared.cohort, covariates=(category("hospital", hospital),))
    given = {"run": small_run(), "arms": ("site", "size"), "reference": "size", "acquisition": ("hospital",)}

    def site_auc(config, out):
        found, failed = compare_cohort(config, dataclasses.replace(prepared, cohort=cohort), out, jobs=1)
        assert not failed
        rows = found.results[(found.results["unit"] == "patient") & (found.results["metric"] == "auc")].set_index("arm")
        return rows.loc["site"], rows.loc["size"], found

    site, size, _ = site_auc(BenchmarkConfig(**given), tmp_path / "folds")
    assert site["low"] > 0.6 and size["low"] < 0.5 < size["high"]
    held_out, size, found = site_auc(BenchmarkConfig(**given, site="hospital"), tmp_path / "sites")
    assert found.fold_names == ("hospital A", "hospital B", "hospital C", "hospital D")
    assert held_out["value"] < site["value"] - 0.2
    for told in (held_out, size):  # the hospital is one constant in each fold, and says nothing there
        assert told["low"] <= 0.5 <= told["high"]
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


def test_the_time_left_is_that_of_the_parts_left():
    parts = [Part(arm, fold, 0) for fold in range(2) for arm in ("joint", "staged", "size")]
    clock = Clock(parts, workers=2)
    assert clock.left_s() is None and clock.left() == "time left not known yet"
    clock.tick(Outcome(parts[2], 1.0))
    assert clock.left_s() is None
    clock.tick(Outcome(parts[0], 100.0))
    assert clock.left_s() == pytest.approx((100 + 1.2 * 100 * 2 + 1) / 2)
    clock.tick(Outcome(parts[1], 300.0))
    assert clock.left_s() == pytest.approx((100 + 300 + 1) / 2) and clock.left() == "about 3 min left"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """The cohort of 12 patients on disk."""
    folder, prepared = tmp_path_factory.mktemp("cohort"), bright_cohort(12)
    with (folder / "cases.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "patient", "scan", "lesion", "mutant", "kernel"])
        for i, (case, slab) in enumerate(zip(prepared.cohort.cases, prepared.slabs, strict=True)):
            write_volume(Volume(slab.hu, slab.geometry), folder / f"s{i}.nii.gz")
            write_volume(Volume(slab.lesion, slab.geometry), folder / f"l{i}.nii.gz")
            label = int(prepared.cohort.labels[i, 0])
            writer.writerow([case.case, case.patient, f"s{i}.nii.gz", f"l{i}.nii.gz", label, "AB"[i % 2]])
    return folder / "cases.csv"


def experiment(folder, manifest, text=""):
    path = folder / "small.yaml"
    path.write_text(
        f"run:\n  data: {manifest}\n  target: mutant\n  device: cpu\n  slab: {{tile_px: 16}}\n"
        "  view: {eval_flips: false}\n  vit: {patch_px: 8, width: 16, heads: 2, depth: 2}\n"
        "  training: {epochs: 2}\n  split: {validation: 0.3}\n"
        "  labels: {covariates: {kernel: {column: kernel}}}\n"
        f"arms: [joint, cnn, size, site]\nfolds: 2\nacquisition: [kernel]\nminimum: 4\n{text}"
    )
    return path


def test_the_command_compares_reports_and_keeps(manifest, tmp_path, capsys):
    given = [str(experiment(tmp_path, manifest)), "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    assert benchmark([*given, "--jobs", "1", "--quick"]) == 0
    said = capsys.readouterr().out
    assert "mutant, one row a patient" in said and "site" in said
    assert "the same CNN trained without heat (cnn)" in said
    page = (tmp_path / "out/report.html").read_text()
    assert "Of 12 cases the scans were compared, whatever was outlined in them" in page
    assert "A rehearsal" in page and (tmp_path / "out/results.csv").is_file()
    assert not (tmp_path / "out/study.joblib").exists()
    assert benchmark([*given, "--jobs", "1", "--quick", "--reference", "cnn"]) == 0


@pytest.mark.parametrize(
    ("text", "change", "message"),
    [
        ("", ["--arms", "[joint,radiomics_lr]"], "unknown arm 'radiomics_lr'; did you mean 'radiomics-lr'?"),
        ("subgroup: []\n", [], "unknown setting subgroup; did you mean subgroups?"),
        ("", ["--run.vit.widht", "8"], "unknown option --run.vit.widht; did you mean --run.vit.width?"),
        ("", ["--folds", "13"], "12 patients cannot make 13 folds; use --folds 12 or fewer, or add patients."),
        ("", ["--split.folds", "3"], "run.split.folds and run.split.fold are the benchmark's: set folds instead"),
        ("", ["--seed", "3"], "unknown option --seed; did you mean --seeds?"),
        ("", ["--positive", "yes"], "positive is 'yes' and negative is None; give both"),
        ("", ["--subgroups", "[age<3]"], "there is no covariate 'age' (declared: kernel); declare it in run.labels"),
    ],
)
def test_the_command_refuses_with_the_repair(text, change, message, manifest, tmp_path, capsys):
    path = experiment(tmp_path, manifest, text)
    given = [str(path), "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), "--jobs", "1"]
    assert benchmark([*given, *change]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_stops_at_a_scan_of_another_name_with_another_outline(manifest, tmp_path, capsys):
    """Copies of a scan, outlined elsewhere; labels put them in the other fold than their original."""
    folder = tmp_path / "cohort"
    shutil.copytree(manifest.parent, folder)
    geometry = read_scan(folder / "s2.nii.gz").geometry
    with (folder / "cases.csv").open("a", newline="") as file:
        for number in range(3):
            shutil.copy(folder / "s2.nii.gz", folder / f"copy{number}.nii.gz")
            outline = np.zeros(geometry.shape, dtype=bool)
            outline[number + 1 : number + 4, 2 + number : 6 + number, 9:13] = True
            write_volume(Volume(outline, geometry), folder / f"moved{number}.nii.gz")
            row = [f"copy{number}", f"Q{number}", f"copy{number}.nii.gz", f"moved{number}.nii.gz", number % 2, "A"]
            csv.writer(file).writerow(row)
    path = experiment(tmp_path, folder / "cases.csv")
    given = [str(path), "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), "--jobs", "1"]
    assert benchmark(given) == 2
    said = capsys.readouterr().err
    assert "leaks between folds; give such cases the same patient name, or remove all but one" in said
    assert "scans of two names have the same pixels: " in said and "(patient 'Q" in said
    assert not (tmp_path / "out" / "parts").exists()


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
