"""What a run folder refuses to go on with."""

import pytest
import yaml

from genomic_vit.config_tree import from_tree
from genomic_vit.training.run_folder import RunError, RunFolder, to_tree

EGFR = {"column": "EGFR", "positive": "Mutant", "negative": "Wildtype"}
AGE = {"column": "Age", "kind": "number"}
LABELS = {"table": "clinical.csv", "targets": {"egfr": EGFR}}


@pytest.fixture
def run(tmp_path):
    """A folder whose run learns EGFR."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(to_tree(config(LABELS))))
    return RunFolder(tmp_path)


def config(labels):
    return from_tree({"data": "cases.csv", "target": "egfr", "labels": labels}, "here")


@pytest.mark.parametrize(
    ("labels", "differ"),
    [
        (
            {**LABELS, "targets": {"kras": EGFR | {"column": "KRAS"}}},
            r"labels.targets.egfr.column \(run: 'EGFR', now: not there\).*"
            r"labels.targets.kras.column \(run: not there, now: 'KRAS'\)",
        ),
        ({**LABELS, "covariates": {"age": AGE}}, r"labels.covariates.age.column \(run: not there, now: 'Age'\)"),
        (
            {**LABELS, "targets": {"egfr": EGFR | {"positive": "M"}}},
            r"egfr.positive \(run: \['Mutant'\], now: \['M'\]\)",
        ),
    ],
)
def test_other_rules_of_labels_are_other_settings(labels, differ, run):
    with pytest.raises(RunError, match=f"cannot resume with other settings: .*{differ}.*another --out"):
        run.check_same(config(labels))


def test_the_same_rules_are_not(run):
    run.check_same(config(LABELS))
