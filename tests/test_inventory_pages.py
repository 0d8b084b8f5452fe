"""An inventory of many cases: pages that open, worst first, each picture once; and where they cannot be written."""

import base64
import csv
import re
import shutil
from pathlib import Path

import pytest

from genomic_vit.data.findings import Finding
from genomic_vit.data.inventory import CaseReport
from genomic_vit.data.picture_file import InventoryError, PictureFile
from genomic_vit.doctor import main as doctor
from genomic_vit.evaluation import inventory_page
from genomic_vit.evaluation.inventory_page import write_inventory
from tests.cohort_dicom import ct_series, grid, store
from tests.scans import chest

GRADES = ("note", "doubt", "unusable")


def reports(number: int) -> list[CaseReport]:
    return [
        CaseReport(f"C{row}", f"P{row}", {"kvp": str(row)}, (Finding(GRADES[row % 3], "so", "do"),))
        for row in range(number)
    ]


def written(folder: Path, number: int) -> int:
    with PictureFile(folder) as pictures:
        for row in range(0, number, 2):
            pictures[f"C{row}"] = f"picture {row}".encode()
        return write_inventory(folder, reports(number), pictures, "T", ("a remark",))


def shown(page: Path) -> list[tuple[str, str | None]]:
    """(case, text of its picture) of a page, in order."""
    articles = re.findall(r"<article id='(C\d+)'>(.*?)</article>", page.read_text(), re.S)
    found = [(case, re.search(r"base64,([^']+)'", text)) for case, text in articles]
    return [(case, base64.b64decode(data[1]).decode() if data else None) for case, data in found]


def test_a_large_cohort_is_pages_of_a_fixed_number_worst_first(tmp_path, monkeypatch):
    monkeypatch.setattr(inventory_page, "PER_PAGE", 4)
    assert written(tmp_path, 10) == 3
    names = ["doctor.html", "doctor-2.html", "doctor-3.html"]
    assert {path.name for path in tmp_path.iterdir()} == {"doctor.csv", *names}
    pages = [shown(tmp_path / name) for name in names]
    assert [len(page) for page in pages] == [4, 4, 2]
    ordered = [case for page in pages for case, _ in page]
    assert ordered == ["C2", "C5", "C8", "C1", "C4", "C7", "C0", "C3", "C6", "C9"]
    for case, picture in (one for page in pages for one in page):
        assert picture == (f"picture {case[1:]}" if int(case[1:]) % 2 == 0 else None)
    with (tmp_path / "doctor.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == [f"C{row}" for row in range(10)]
    where = {case: name for name, page in zip(names, pages, strict=True) for case, _ in page}
    assert {row["case"]: row["page"] for row in rows} == where


def test_the_first_page_leads_to_all_and_each_to_its_neighbours(tmp_path, monkeypatch):
    monkeypatch.setattr(inventory_page, "PER_PAGE", 4)
    written(tmp_path, 10)
    links = {path.name: re.findall(r"href='([^']+)'", path.read_text()) for path in tmp_path.glob("*.html")}
    assert links["doctor.html"] == ["doctor-2.html", "doctor-2.html", "doctor-3.html"]
    assert links["doctor-2.html"] == ["doctor.html", "doctor.html", "doctor-3.html"]
    assert links["doctor-3.html"] == ["doctor.html", "doctor-2.html"]
    first = (tmp_path / "doctor.html").read_text()
    assert "Page 1 of 3, cases 1 to 4 of 10, worst first; doctor.csv names the page of every case" in first
    assert "page 2</a>: doubtful to usable, C4 to C3" in first and "a remark" in first


def test_a_smaller_inventory_leaves_no_page_of_the_larger_and_no_link(tmp_path, monkeypatch):
    monkeypatch.setattr(inventory_page, "PER_PAGE", 4)
    written(tmp_path, 10)
    (tmp_path / "doctor-notes.html").write_text("mine")
    assert written(tmp_path, 4) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["doctor-notes.html", "doctor.csv", "doctor.html"]
    assert "href" not in (tmp_path / "doctor.html").read_text()


def test_pages_are_written_all_or_none(tmp_path, monkeypatch):
    monkeypatch.setattr(inventory_page, "PER_PAGE", 4)
    written(tmp_path, 4)
    before = (tmp_path / "doctor.html").read_text()
    article = inventory_page._article

    def full(report, picture):
        if report.case == "C3":  # on the second page
            raise OSError(28, "No space left on device")
        return article(report, picture)

    monkeypatch.setattr(inventory_page, "_article", full)
    with pytest.raises(InventoryError, match=r"inventory cannot be written \(No space left on device\); make room"):
        written(tmp_path, 10)
    assert (tmp_path / "doctor.html").read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["doctor.csv", "doctor.html"]


def test_pictures_that_find_no_room_say_how_much_is_needed(tmp_path):
    class Full:
        def seek(self, *_):
            return 0

        def write(self, _):
            raise OSError(28, "No space left on device")

    with PictureFile(tmp_path) as pictures:
        pictures._file, held = Full(), pictures._file
        with pytest.raises(
            InventoryError, match=r"cannot be kept \(No space left on device\); make room, 100 KB a case"
        ):
            pictures["C"] = b"x"
        pictures._file = held


@pytest.fixture
def cases(tmp_path):
    store(ct_series("R1", chest(grid())), tmp_path / "ct")
    (tmp_path / "cases.csv").write_text('case,patient,scan,lesion\nR1,R1,ct,"900,900,900"\n')
    return tmp_path / "cases.csv"


@pytest.mark.parametrize(
    ("place", "message"),
    [("cases.csv/out", "cannot be made"), ("cases.csv", "cannot be made"), ("/proc/none", "cannot be made"),
     ("taken", "doctor.html: is a folder, where a file is to be written")],
)  # fmt: skip
def test_an_out_that_cannot_be_written_is_said_before_the_inspection(place, message, cases, monkeypatch, capsys):
    (cases.parent / "taken" / "doctor.html").mkdir(parents=True)
    monkeypatch.setattr("genomic_vit.data.examine.examine", lambda *_, **__: pytest.fail("it inspected"))
    assert doctor([str(cases), "--out", str(cases.parent / place)]) == 2
    said = capsys.readouterr().err
    assert message in said and "with --out" in said


def test_a_point_in_the_other_frame_is_hinted_at_as_in_training(cases, shared_data, capsys):
    cases.write_text(f'case,patient,scan,lesion\nA2,A2,{shared_data / "lung_dx_a0002"},"100,200,200"\n')
    assert doctor([str(cases), "--jobs", "1"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "lies outside the scan" in said and "check --frame ras" in said


def test_pictures_are_made_only_for_a_page(cases, monkeypatch, tmp_path):
    monkeypatch.setattr("genomic_vit.data.inventory.nine_slices", lambda *_: pytest.fail("a picture was made"))
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    cases.write_text("case,patient,scan,lesion\nR1,R1,ct,\n")
    assert doctor([str(cases), "--jobs", "1", "--field", "lung"]) in (0, 1)
