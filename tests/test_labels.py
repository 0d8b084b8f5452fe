"""Targets and covariates out of clinical tables, the released one of NSCLC Radiogenomics above all."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from genomic_vit.cohort.labelled import read_cohort
from genomic_vit.cohort.labels import OUTCOME, check_learnable, read_covariate, read_target
from genomic_vit.cohort.manifest import ManifestError
from genomic_vit.cohort.presets import PRESETS
from genomic_vit.cohort.table import LabelError, read_table
from genomic_vit.config import ConfigError, CovariateRule, LabelsConfig, TargetRule, UserError, plain_text
from genomic_vit.config_tree import from_tree

RADIOGENOMICS = PRESETS["nsclc-radiogenomics"]
CLINICAL = (
    "Case ID,Histology ,EGFR status,Age,Recurrence,Notes,Notes\n"
    "R-1,Adenocarcinoma,Mutant,61,yes,a,b\nR-2,Squamous,wildtype ,Not Collected,no,,\n"
    "R-3,adenocarcinoma,Unknown,70,no,,\n"
)
EGFR = TargetRule("egfr_STATUS", "Mutant", "Wildtype")


@pytest.fixture
def clinical(tmp_path):
    (tmp_path / "clinical.csv").write_text(CLINICAL, encoding="utf-8-sig")
    return tmp_path / "clinical.csv"


@pytest.fixture(scope="module")
def released(shared_data):
    return next((shared_data / "nsclc_radiogenomics").glob("NSCLCR01*.csv"))


@pytest.mark.parametrize(("name", "counts"), [("EGFR", (43, 129, 39)), ("KRAS", (38, 133, 40)), ("ALK", (2, 155, 54))])
def test_genotypes_of_the_released_table(name, counts, released):
    target = read_target(read_table(released), name, RADIOGENOMICS.targets[name])
    assert target.counts() == counts
    with released.open(newline="", encoding="utf-8-sig") as file:  # counted again by hand
        cells = [row[target.rule.column] for row in csv.DictReader(file)]
    assert counts == (sum(c in target.rule.positive for c in cells), cells.count("Wildtype"),
                      sum(c in ("Unknown", "Not collected") for c in cells))  # fmt: skip


def test_two_translocations_cannot_be_learned(released):
    target = read_target(read_table(released), "ALK", RADIOGENOMICS.targets["ALK"])
    message = r"ALK: 2 Translocated, 155 Wildtype, 54 missing \(39 Unknown, 15 Not collected\)\. 2 positive are too few"
    with pytest.raises(LabelError, match=message):
        check_learnable(target, "table", 10)
    check_learnable(target, "table", 2)


def test_decimal_commas_are_not_taken_for_missing_numbers(tmp_path):
    (tmp_path / "german.csv").write_text("Patient ID;Alter\nA;65,5\nB;61\n", encoding="utf-8")
    with pytest.raises(LabelError, match=r"german.csv: covariate 'age'.*numbers with a comma \(1 65,5\); write 65.5"):
        read_covariate(read_table(tmp_path / "german.csv"), "age", CovariateRule("Alter", "number"))


@pytest.mark.parametrize("name", RADIOGENOMICS.covariates)
def test_covariates_of_the_released_table(name, released):
    covariate = read_covariate(read_table(released), name, RADIOGENOMICS.covariates[name])
    missing = {"pack_years": 56, "ethnicity": 49, "ground_glass": 65}.get(name, 0)
    assert covariate.missing.sum() == missing
    assert f"{211 - missing} known" in str(covariate)
    if name == "age":
        assert covariate.values.dtype == float and covariate.values.min() > 20 and covariate.values.max() < 100
    if name == "ground_glass":  # "%GG" is text, in classes
        assert {"0%", ">0 - 25%", "100%"} <= set(covariate.values)


def test_outcome_columns_of_the_released_table_are_refused_and_no_others(released):
    table = read_table(released)
    refused = {name for name in table.header if OUTCOME.search(plain_text(name))}
    assert refused == {
        *("Recurrence", "Recurrence Location", "Date of Recurrence", "Date of Last Known Alive", "Survival Status"),
        *("Date of Death", "Time to Death (days)", "Adjuvant Treatment", "Chemotherapy", "Radiation"),
    }
    for name in refused:
        with pytest.raises(LabelError, match=r"known only after treatment.*--allow-outcome-columns"):
            read_covariate(table, "x", CovariateRule(name))
    allowed = read_covariate(table, "recurrence", CovariateRule("Recurrence"), allow_outcome_columns=True)
    assert (allowed.values == "yes").sum() == 54


@pytest.mark.parametrize(
    "name", ["deadstatus.event", "Survival.time", "OS_months", "Vital Status", "Progression", "PFS"]
)
def test_other_names_of_outcomes(name):
    assert OUTCOME.search(plain_text(name))


@pytest.mark.parametrize(
    "name", ["Diagnosis", "Cost", "Overall.Stage", "Smoking status", "Position", "CTDIvol", "Deadspace"]
)
def test_harmless_names(name):
    assert OUTCOME.search(plain_text(name)) is None


@pytest.mark.parametrize("wanted", ["Histology", "histology ", "HISTOLOGY", " Histology "])
def test_headers_are_found_as_people_write_them(wanted, released):
    assert read_table(released).find(wanted) == "Histology"


def test_near_misses_are_suggested(released, clinical):
    table = read_table(released)
    with pytest.raises(LabelError, match=r"no column 'EGFR mutaton status'; did you mean 'EGFR mutation status'"):
        table.find("EGFR mutaton status")
    with pytest.raises(LabelError, match=r"no column 'smoking'; did you mean 'Smoking status'"):
        table.find("smoking")
    with pytest.raises(LabelError, match=r"never holds 'Mutated', which means positive.*Did you mean 'Mutant'"):
        read_target(table, "EGFR", TargetRule("EGFR mutation status", "Mutated", "Wildtype"))
    with pytest.raises(LabelError, match=r"did you mean 'Notes \(\d\)' or 'Notes \(\d\)'"):
        read_table(clinical).find("notes")
    assert table.find("EGFR mut*") == "EGFR mutation status"
    with pytest.raises(LabelError, match=r"may mean 'Tumor Location"):
        table.find("Tumor Location*")


def test_what_is_neither_positive_nor_negative_is_missing(clinical):
    target = read_target(read_table(clinical), "EGFR", EGFR)
    np.testing.assert_array_equal(target.values, [1, 0, math.nan])
    age = read_covariate(read_table(clinical), "age", CovariateRule("age", "number"))
    np.testing.assert_array_equal(age.values, [61, math.nan, 70])
    assert age.written() == ["61", "", "70"] and "1 missing (1 Not Collected)" in str(age)
    with pytest.raises(LabelError, match=r"holds nothing known.*2 Adenocarcinoma|Is its kind category"):
        read_covariate(read_table(clinical), "h", CovariateRule("Histology", "number"))


def test_a_workbook_reads_like_its_csv(clinical, tmp_path):
    import openpyxl

    book = openpyxl.Workbook()
    book.active.title = "Data "
    for line in csv.reader(CLINICAL.splitlines()):
        book.active.append([float(cell) if cell.isdigit() else cell for cell in line])
    book.create_sheet("Legend").append(["1 means yes"])
    book.save(tmp_path / "clinical.xlsx")
    assert read_table(tmp_path / "clinical.xlsx").rows == read_table(clinical).rows
    assert read_table(tmp_path / "clinical.xlsx", "data").rows == read_table(clinical).rows
    with pytest.raises(LabelError, match=r"no sheet 'Dat'; it has: Data , Legend"):
        read_table(tmp_path / "clinical.xlsx", "Dat")


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_separators(mark, clinical, tmp_path):
    (tmp_path / "other.csv").write_text(CLINICAL.replace(",", mark))
    assert read_table(tmp_path / "other.csv").rows == read_table(clinical).rows


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, "no such label table"),
        ("a.csv", b"Case ID,EGFR\n", "no rows below its header"),
        ("b.csv", b"Case ID,EGFR\nM\xfcller,1\n", "is not text in UTF-8"),
        ("c.xlsx", b"PK\x03\x04 cut short", "cannot be read as XLSX"),
    ],
)
def test_what_is_no_table_is_refused(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(LabelError, match=message):
        read_table(tmp_path / name)


def manifest(tmp_path, patients):
    lines = [f"{patient}_{place},{patient},s.nii,l.nii,{place % 2}" for place, patient in enumerate(patients)]
    (tmp_path / "cases.csv").write_text("case,patient,scan,lesion,plain\n" + "\n".join(lines) + "\n")
    return tmp_path / "cases.csv"


def test_a_table_is_put_to_the_cases_by_patient(clinical, tmp_path, caplog):
    cases = manifest(tmp_path, ["R-2", "r-1", "R-9", "R-1"])
    rules = LabelsConfig(str(clinical), targets={"EGFR": EGFR}, covariates={"age": CovariateRule("Age", "number")},
                         min_cases=1)  # fmt: skip
    cohort = read_cohort(cases, ("plain", "EGFR"), rules)
    np.testing.assert_array_equal(cohort.labels, [[0, 0], [1, 1], [0, math.nan], [1, 1]])
    np.testing.assert_array_equal(cohort.take(np.array([3, 0])).covariates[0].values, [61, math.nan])
    assert "1 of 4 patients are not in column 'Case ID': R-9" in caplog.text
    with pytest.raises(ManifestError, match=r"2 positive and 1 negative patients.*at least 10"):
        read_cohort(cases, ("EGFR",), LabelsConfig(str(clinical), targets={"EGFR": EGFR}))


@pytest.mark.parametrize(
    ("labels", "target", "message"),
    [
        ({"key": "MRN"}, "plain", "labels.key belongs to a clinical table; name it as labels.table"),
        ({"preset": "lung1"}, "plain", "labels.preset belongs to a clinical table"),
        ({"table": "clinical.csv"}, "plain", "nothing is read from it; give labels.targets"),
        ({"table": "clinical.csv", "targets": {"EGFR": EGFR}}, "EGRF", r"no target column 'EGRF'.* section has: EGFR"),
    ],
)
def test_labels_that_say_too_little_are_refused(labels, target, message, tmp_path):
    with pytest.raises(UserError, match=message):
        read_cohort(manifest(tmp_path, ["R-1", "R-2"]), (target,), LabelsConfig(**labels))


def test_names_that_never_meet_are_shown_side_by_side(clinical, tmp_path):
    rules = LabelsConfig(str(clinical), targets={"EGFR": EGFR})
    with pytest.raises(LabelError, match=r"none of 1 patients stands in column .*named X-1; the table has R-1"):
        read_cohort(manifest(tmp_path, ["X-1"]), ("EGFR",), rules)
    with pytest.raises(LabelError, match=r"no column 'Pat'"):
        read_cohort(
            manifest(tmp_path, ["R-1"]), ("EGFR",), LabelsConfig(str(clinical), key="Pat", targets={"EGFR": EGFR})
        )


def test_a_patient_in_rows_that_disagree_is_refused(clinical, tmp_path):
    clinical.write_text(CLINICAL + "R-1,Adenocarcinoma,Wildtype,61,yes,a,b\n")
    with pytest.raises(
        LabelError, match=r"R-1 stands in several rows.*disagree on 'EGFR status' .'Mutant' and 'Wildtype'"
    ):
        read_cohort(manifest(tmp_path, ["R-1"]), ("EGFR",), LabelsConfig(str(clinical), targets={"EGFR": EGFR}))
    clinical.write_text(CLINICAL + "R-1,Adenocarcinoma,Mutant,99,yes,a,b\n")  # ages disagree, but nobody asked
    rules = LabelsConfig(str(clinical), targets={"EGFR": EGFR}, min_cases=1)
    assert read_cohort(manifest(tmp_path, ["R-1", "R-2"]), ("EGFR",), rules).labels[0, 0] == 1


def test_the_rules_come_from_a_config_file(tmp_path):
    import yaml

    text = """
    data: cases.csv
    target: EGFR
    labels:
      table: clinical.csv
      targets:
        EGFR: {column: EGFR status, positive: [Mutant, 1], negative: Wildtype}
      covariates:
        age: {column: Age, kind: number}
    """
    config = from_tree(yaml.safe_load(text), "x.yaml")
    assert config.labels.targets["EGFR"].positive == ("Mutant", "1")
    assert config.labels.covariates["age"].kind == "number"
    for old, new, message in [
        ("column: EGFR status", "colum: EGFR status", "unknown setting labels.targets.EGFR.colum; did you mean"),
        ("column: Age, ", "", "labels.covariates.age lacks column; add it"),
        ("negative: Wildtype", "negative: mutant", r"\['mutant'\] means positive and negative"),
        ("negative: Wildtype", "negative: no", "put the text in quotes"),
        ("age: {", "EGFR: {", r"labels: \['EGFR'\] names two things"),
        ("age: {", "patient: {", r"labels: \['patient'\] names two things, or a column of the manifest"),
        ("kind: number", "kind: text", "labels.covariates: 'Age' is of kind 'text'"),
    ]:
        with pytest.raises(ConfigError, match=message):
            from_tree(yaml.safe_load(text.replace(old, new)), "x.yaml")


def test_the_rules_in_the_documentation_are_rules():
    import yaml

    text = (Path(__file__).parent.parent / "docs/cohort.md").read_text().split("```yaml\n")[1].split("```")[0]
    labels = from_tree(yaml.safe_load(text), "docs/cohort.md").labels
    assert labels.targets["EGFR"].positive == ("Mutant", "L858R", "Exon 19 del") and labels.key == "MRN"
