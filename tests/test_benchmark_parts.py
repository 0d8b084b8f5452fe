"""The parts of a benchmark: kept, told again where their heat lies, failed and named, and the time they take."""

import dataclasses
import json
import logging
import shutil
from importlib.metadata import version

import pandas as pd
import pytest

from genomic_vit.cohort.folds import assign_folds
from genomic_vit.comparison.files import write_report
from genomic_vit.comparison.part import Outcome, Part
from genomic_vit.comparison.parts import Clock
from genomic_vit.evaluation.report import print_table
from genomic_vit.run_benchmark import compare_cohort
from genomic_vit.training.environment import environment
from tests.benchmark_cohort import ARMS, CONFIG, PREPARED


def test_finished_parts_are_kept_and_others_are_run(compared, tmp_path, caplog):
    _, before = compared
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


def test_parts_made_under_other_versions_are_kept_and_told(compared, tmp_path, caplog):
    """Of fold 0 by another torch, of fold 1 before a part kept its versions: its done.json has key and seconds."""
    config = dataclasses.replace(CONFIG, arms=("size", "clinical"), reference="size", subgroups=())
    for arm in config.arms:
        shutil.copytree(compared[1] / "parts" / arm, tmp_path / "parts" / arm)
    before = json.loads((tmp_path / "parts/size/seed_0_fold_0/done.json").read_text())
    assert before["environment"] == environment() and not compared[0].warnings
    for arm, fold, made in (("size", 0, {"torch": "1.0"}), ("size", 1, None), ("clinical", 1, {"torch": "1.1"})):
        done = tmp_path / f"parts/{arm}/seed_0_fold_{fold}/done.json"
        told = json.loads(done.read_text())
        now = told.pop("environment")
        done.write_text(json.dumps(told if made is None else told | {"environment": now | made}))
    with caplog.at_level(logging.INFO):
        found, failed = compare_cohort(config, PREPARED, tmp_path, jobs=1)
    assert not failed and "4 of 4 parts are kept from before" in caplog.text
    said = (
        "2 of 4 parts were made under other versions or on another machine than this report tells: torch 1.0 (1), 1.1 "
        f"(1), now {version('torch')}. Numbers may differ for that alone; to have all parts made alike, give "
        "another --out."
    )
    assert found.warnings == (said,) and said in caplog.text
    assert f'<p class="warning">{said}</p>' in write_report(found, tmp_path).read_text()


def test_two_processes_make_the_parts_that_one_makes(compared, tmp_path, monkeypatch):
    import genomic_vit.comparison.part as parts

    monkeypatch.setattr(parts, "fit_and_score", None)  # in this process alone: a part that is run here fails
    config = dataclasses.replace(CONFIG, arms=("clinical", "size"), reference="size", subgroups=())
    found, failed = compare_cohort(config, PREPARED, tmp_path, jobs=2)
    assert not failed and [arm.arm for arm in found.arms] == ["clinical", "size"]
    for part in [Part(arm, fold, 0) for arm in config.arms for fold in range(2)]:
        there, here = (part.folder(out) / "scores.csv" for out in (tmp_path, compared[1]))
        assert there.read_bytes() == here.read_bytes()
        assert json.loads((part.folder(tmp_path) / "done.json").read_text())["environment"] == environment()
    alone, both = (
        results[(results["metric"] == "auc") & (results["group"] == "all") & results["arm"].isin(config.arms)]
        for results in (compared[0].results, found.results)
    )
    pd.testing.assert_frame_equal(*(rows.reset_index(drop=True) for rows in (alone, both)), check_dtype=False)


@pytest.fixture
def old_heat(compared, tmp_path):
    """The parts of `compared`, the heat of joint told in the form of an earlier version; its training is costly."""
    out = tmp_path / "old"
    shutil.copytree(compared[1], out)
    for fold in range(2):
        table = pd.read_csv(out / f"parts/joint/seed_0_fold_{fold}/heat.csv")
        table[["case", "share", "area", "hit"]].to_csv(out / f"parts/joint/seed_0_fold_{fold}/heat.csv", index=False)
    return out


def contents(out):
    """Every file of the parts, bytes and time."""
    files = [path for path in (out / "parts").rglob("*") if path.is_file()]
    return {str(path.relative_to(out)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_heat_of_an_older_form_is_told_again_by_the_kept_network_and_nothing_is_trained(
    compared, old_heat, monkeypatch, caplog
):
    import genomic_vit.comparison.part as parts

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
        tables = [pd.read_csv(out / f"parts/joint/seed_0_fold_{fold}/heat.csv") for out in (compared[1], old_heat)]
        pd.testing.assert_frame_equal(*tables)
    pd.testing.assert_frame_equal(found.results, compared[0].results)


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
    import genomic_vit.comparison.part as parts

    config = dataclasses.replace(CONFIG, arms=("vit",), reference="vit", subgroups=())
    found, failed = compare_cohort(config, PREPARED, tmp_path, jobs=1)
    assert not failed and set(found.results[found.results["target"] == "heat"]["arm"]) == {"vit"}
    (tmp_path / "parts/vit/seed_0_fold_0/heat.csv").unlink()
    monkeypatch.setattr(parts, "fit", None)
    again, failed = compare_cohort(config, PREPARED, tmp_path, jobs=1)
    assert not failed
    pd.testing.assert_frame_equal(again.results, found.results)


def test_a_failed_part_is_named_and_the_rest_goes_on(tmp_path, monkeypatch, caplog):
    import genomic_vit.comparison.part as parts

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
    import genomic_vit.comparison.part as parts

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
