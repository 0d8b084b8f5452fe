"""What a collection's index says would be used; against the real index where idc-index is installed."""

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

from genomic_vit.cohort.commons_fetch import FOLDERS, fetch, series_folder
from genomic_vit.cohort.commons_index import CommonsError, IndexRow, read_index
from genomic_vit.cohort.commons_plan import plan_collection, stated
from genomic_vit.cohort.presets import PRESETS
from genomic_vit.manifest import main as manifest

CT, SEG = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4"
PRESET = PRESETS["nsclc-radiogenomics"]


def row(uid, description, images=250, study="A", modality="CT", **other):
    fields = {"patient": "P", "study_date": "1990-01-01", "number": "1", "size_mb": 100.0, **other}
    return IndexRow(study_uid=study, series_uid=uid, modality=modality, sop_class=CT if modality == "CT" else SEG,
                    description=description, images=images, **fields)  # fmt: skip


def judged(*rows):
    return {one.row.series_uid: (one.verdict, one.reason) for one in plan_collection(rows, PRESET).series}


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("Topogram  0.6  T20s", "localizer"),
        ("AP SCOUT", "localizer"),
        ("COR CT", "reformat of another series.*COR"),
        ("Thorax  2.0  SPO  sag", "reformat"),
        ("CORONAL MPR 2MM", "reformat"),
        ("Lung 7x2 Thin Mips", "projection or average"),
        ("CT Chest1 Cor 3 Avg", "projection or average"),
        ("CT Atten Cor Head In 3.75thk", "PET attenuation correction, by its description"),
        ("CTAC Large FOV 70", "PET attenuation correction, by its description"),
        ("AC CT WB", "PET attenuation correction, by its description"),
        ("ABD/PEL  1.0  B31f", "another part of the body"),
        ("A/P 1MM", "another part of the body"),
    ],
)
def test_what_is_no_scan_is_refused_by_its_description(description, reason):
    found = judged(row("1", "Chest  5.0  B31f", 60), row("2", description))
    assert found["1"][0] == "chosen"
    assert found["2"][0] == "refused" and re.search(reason, found["2"][1])


@pytest.mark.parametrize("description", ["ST C/A/P 5MM", "CAP  5.0  B31f", "IN REACH", "", "CHEST W/O", "SUPER"])
def test_chests_are_not_taken_for_something_else(description):
    assert judged(row("1", description))["1"][0] == "chosen"


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (("Thorax  1.0  B45f", 300), ("Thorax  5.0  B31f", 60)),
        (("Thorax  1.0  B31f", 300), ("Thorax  1.0  B70f", 300)),
        (("THIN STANDARD WINDOW", 277), ("THIN LUNG WINDOW", 241)),
        (("THINS", 300), ("AXIAL", 90)),  # by the number of images alone
        (("CHEST 1.25MM", 280), ("CHEST 1.25MM", 250)),
    ],
)
def test_the_order_is_that_of_the_headers(better, worse):
    found = judged(row("1", *worse), row("2", *better))
    assert [found["1"][0], found["2"][0]] == ["refused", "chosen"]


def test_a_ct_in_a_study_with_pet_is_for_attenuation():
    found = judged(row("1", "CT SLICES"), row("2", "WB MAC", modality="PT"), row("3", "AX 1.25", study="B"))
    assert found["1"][0] == "refused" and "its study holds PET" in found["1"][1]
    assert found["3"][0] == "chosen" and found["2"][1] == "it is no CT: PET (PT)"


def test_the_scan_lies_in_the_study_of_the_outline():
    outline = row("3", "3D Slicer segmentation result", 1, study="B", modality="SEG")
    machine = row("4", "AIMI lung and nodule AI segmentation", 1, study="A", modality="SEG", result_of="bamf")
    found = judged(row("1", "Thorax  1.0  B45f"), row("2", "Thorax  5.0  B31f", study="B"), outline, machine,
                   row("5", "Thorax  7.0  B31f", study="B"))  # fmt: skip
    assert found["1"] == ("refused", "the tumour was outlined in another study")
    assert found["2"][0] == "chosen" and found["3"][0] == "lesion" and found["5"][0] == "beside"
    assert found["4"][0] == "refused" and "analysis result bamf" in found["4"][1]


@pytest.mark.parametrize(
    ("description", "thick_mm", "kernel"),
    [
        ("Thorax  1.0  B45f", 1.0, "B45f"),
        (".625 mm Chest", 0.625, ""),
        ("1.25MM CHEST BONE PLUS", 1.25, "BONE"),
        ("LUNG 1MM B45f", 1.0, "B45f"),
        ("LUNG  2X2  B70f VERY SHARP", 2.0, "B70f"),
        ("CHEST WITH 5 X 5", 5.0, ""),
        ("AX 1.25", 1.25, ""),
        ("THIN LUNG WINDOW", None, "LUNG"),
        ("Gated Chest  1.0  B25f  BestDiast 70 %", 1.0, "B25f"),
        ("45 SEC", None, ""),
    ],
)
def test_thickness_and_kernel_out_of_a_description(description, thick_mm, kernel):
    assert stated(description) == (thick_mm, kernel)


@pytest.fixture(scope="module")
def real():
    pytest.importorskip("idc_index_data", reason="the extra idc is not installed")
    return plan_collection(read_index("nsclc_radiogenomics")[0], PRESET)


def test_the_plan_of_nsclc_radiogenomics_on_the_real_index(real, shared_data):
    assert len(real.patients) == 211
    assert Counter(one.row.modality for one in real.series) == {"CT": 727, "SEG": 515, "PT": 480}
    table = next((shared_data / "nsclc_radiogenomics").glob("NSCLCR01*.csv"))
    with table.open(newline="", encoding="utf-8-sig") as file:
        assert set(real.patients) == {line["Patient ID"] for line in csv.DictReader(file)}
    with (shared_data / "nsclc_radiogenomics/tumour_points_lps_mm.csv").open() as file:
        assert real.patients_with("lesion") == {line["Case ID"] for line in csv.DictReader(file)}
    assert len(real.patients_with("lesion")) == len(real.patients_with("chosen", "lesion")) == 144
    assert len(real.patients_with("chosen")) == 194
    assert all(one.reason for one in real.series)


def test_no_chosen_series_of_the_real_index_is_a_scout_reformat_or_attenuation_ct(real):
    chosen = [one.row for one in real.series if one.verdict == "chosen"]
    assert len(chosen) == len({row.patient for row in chosen}) == 194
    words = {word for row in chosen for word in row.description.upper().replace("/", " ").split()}
    assert not words & {"SCOUT", "TOPOGRAM", "COR", "SAG", "CORONAL", "CORONALS", "MPR", "MIP", "CTAC", "WB", "FUSION"}
    pet = {one.row.study_uid for one in real.series if one.row.modality == "PT"}
    assert not pet & {row.study_uid for row in chosen}
    assert min(row.images for row in chosen) > 100
    outlined = {one.row.patient: one.row.study_uid for one in real.series if one.verdict == "lesion"}
    assert all(row.study_uid == outlined.get(row.patient, row.study_uid) for row in chosen)


def test_the_commands_plan_and_what_it_writes(real, tmp_path, capsys):
    out = tmp_path / "plan.csv"
    assert manifest(["nsclc-radiogenomics", "--plan", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "211 patients, 1722 series" in said and "290 series of 144 patients, 21.4 GB" in said
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1722 and all(line["reason"] for line in rows)
    wanted = real.wanted()
    assert {line["series_uid"] for line in rows if line["verdict"] != "refused"} >= {row.series_uid for row in wanted}
    assert manifest(["nsclc-radiogenomics", "--plan", "--out", str(out)]) == 2
    assert "exists; pass --overwrite" in capsys.readouterr().err


class Recorder:
    """A client that writes what it is asked for, or part of it."""

    def __init__(self, rows, *, whole=True):
        self.rows, self.whole, self.calls = {row.series_uid: row for row in rows}, whole, []

    def download_from_selection(self, downloadDir, **options):
        self.calls.append(options)
        for uid in options["seriesInstanceUID"]:
            row = self.rows[uid]
            folder = Path(downloadDir, series_folder(row))
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(row.images - (not self.whole)):
                (folder / f"{number}.dcm").write_bytes(b"")


def test_fetching_goes_on_where_it_stopped(tmp_path):
    rows = [row("1", "Thorax", 3), row("2", "outline", 1, modality="SEG", patient="Q")]
    client = Recorder(rows, whole=False)
    with pytest.raises(CommonsError, match=r"2 of 2 series did not come whole \(P CT Thorax, Q SEG outline\)"):
        fetch(rows, tmp_path / "d", client)
    client.whole = True
    (tmp_path / "d" / series_folder(rows[1]) / "0.dcm").write_bytes(b"")
    assert fetch(rows, tmp_path / "d", client) == 1
    assert [call["seriesInstanceUID"] for call in client.calls] == [["1", "2"], ["1"]]
    assert [call["use_s5cmd_sync"] for call in client.calls] == [False, True]
    assert all(call["dirTemplate"] == FOLDERS for call in client.calls)
    assert fetch(rows, tmp_path / "d", client) == 0 and len(client.calls) == 2


def test_what_the_client_says_is_passed_on(tmp_path):
    class Broken:
        def download_from_selection(self, **_):
            raise OSError("no route to host")

    with pytest.raises(CommonsError, match=r"stopped \(OSError: no route to host\); the same command goes on"):
        fetch([row("1", "Thorax")], tmp_path, Broken())


def test_the_real_client_takes_the_call(real, tmp_path):
    """A dry run of idc-index's own client accepts the options and counts the same bytes."""
    IDCClient = pytest.importorskip("idc_index").IDCClient
    rows = real.wanted()[:4]

    class Dry:
        def download_from_selection(self, **options):
            IDCClient.client().download_from_selection(**options, dry_run=True)

    with pytest.raises(CommonsError, match=r"4 of 4 series did not come whole"):
        fetch(rows, tmp_path / "d", Dry())


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "idc_index_data", None)
    with pytest.raises(CommonsError, match=r"need the extra idc: pip install idc-index"):
        read_index("nsclc_radiogenomics")
