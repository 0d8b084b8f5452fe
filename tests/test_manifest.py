"""The manifest's rules, and what is said of one that breaks them."""

import numpy as np
import pytest

from genomic_vit.cohort.manifest import ManifestError, read_manifest

HEAD = "case,patient,scan,lesion,mutant,EGFR\n"
GOOD = HEAD + "a,P1,s/a.nii,l/a.nii,1,Mutant\nb,P1,s/b.nii,l/b.nii,,Wildtype\nc,P2,s/c.nii,l/c.nii,0,Unknown\n"


def written(tmp_path, text, encoding="utf-8"):
    (tmp_path / "cases.csv").write_text(text, encoding=encoding)
    return tmp_path / "cases.csv"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_paths_are_relative_to_the_file_and_missing_labels_are_missing(encoding, tmp_path):
    cohort = read_manifest(written(tmp_path, GOOD, encoding), ("mutant",))
    assert cohort.cases[1].scan == tmp_path / "s/b.nii"
    assert list(cohort.patients) == ["P1", "P1", "P2"]
    np.testing.assert_array_equal(cohort.labels[:, 0], [1, np.nan, 0])


def test_text_labels_are_declared_and_the_rest_counted_aloud(tmp_path, caplog):
    cohort = read_manifest(written(tmp_path, GOOD), ("EGFR",), "Mutant", "Wildtype")
    np.testing.assert_array_equal(cohort.labels[:, 0], [1, 0, np.nan])
    assert "1 Mutant, 1 Wildtype; taken as missing: 1 Unknown" in caplog.text


def test_text_labels_are_found_as_those_of_a_label_table_are(tmp_path):
    cohort = read_manifest(written(tmp_path, GOOD), ("EGFR",), " mutant", "WILDTYPE")
    np.testing.assert_array_equal(cohort.labels[:, 0], [1, 0, np.nan])


def test_a_point_that_is_none_is_left_for_its_case_to_be_refused(tmp_path):
    text = GOOD.replace("l/b.nii", '"1,2"').replace("l/c.nii", '"1,2,3"')
    assert [case.lesion for case in read_manifest(written(tmp_path, text), ()).cases[1:]] == ["1,2", "1,2,3"]


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        (GOOD.replace("lesion", "mask", 1), "mutant", "no column 'lesion'; found: case"),
        (GOOD, "mutat", "no target column 'mutat'.*did you mean 'mutant'"),
        (HEAD, "mutant", "holds a header but no cases"),
        (GOOD.replace("EGFR", "mutant", 1), "mutant", "2 columns are called 'mutant'; rename or remove all but one"),
        ("", "mutant", "is empty; give a CSV with the columns case, patient"),
        (
            GOOD.replace("P1,s/b.nii", "P1,Doe, s/b.nii"),
            "mutant",
            "1 rows have more cells than the header's 6.*row 3.*quo",
        ),
        (GOOD.replace("b,P1", "a,P1"), "mutant", r"1 case names stand in several rows \('a'\)"),
        (GOOD.replace("c,P2", "c,"), "mutant", r"1 needed cells are empty \(row 4 lacks patient\)"),
        (GOOD, "EGFR", "target 'EGFR' holds 'Mutant' × 1.*--positive and --negative"),
        (GOOD.replace(",", ";"), "mutant", "no column 'case'|separated by ';'; save it with commas"),
    ],
)
def test_a_bad_manifest_is_refused_in_words(text, target, message, tmp_path):
    with pytest.raises(ManifestError, match=message):
        read_manifest(written(tmp_path, text), (target,))


def test_no_manifest(tmp_path):
    with pytest.raises(ManifestError, match="no such manifest; give a CSV with the columns case, patient"):
        read_manifest(tmp_path / "gone.csv", ())
