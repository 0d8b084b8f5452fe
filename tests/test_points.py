"""Points and boxes: where they land, in which frame, and what is refused."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genomic_vit import Geometry
from genomic_vit.imaging.errors import LesionError
from genomic_vit.imaging.lesion import LesionOptions, open_scan_of, read_lesion, read_lesions, want
from genomic_vit.imaging.scan import open_scan
from tests.dicom_lesions import scan_of, slices_of
from tests.scans import AXES, grid_of, turned

SMALL = grid_of(turned(12, 8), (2.0, 0.7, 0.8), (19, 40, 44))
MIDDLE = SMALL.to_lps((np.array(SMALL.shape) - 1) / 2)


def text(point):
    return ",".join(f"{mm:.4f}" for mm in point)


@settings(max_examples=30, deadline=None)
@given(
    angles=st.tuples(st.floats(-40, 40), st.floats(-180, 180)),
    spacing=st.tuples(st.floats(0.5, 8), st.floats(0.4, 1.2), st.floats(0.4, 1.2)),
    ras=st.booleans(),
    point_mm=st.floats(4, 12),
)
def test_a_point_is_a_ball_around_it(angles, spacing, ras, point_mm):
    grid = Geometry((25, 60, 60), np.array(spacing), np.array([-50.0, 30.0, 7.0]), turned(*angles))
    point = grid.to_lps(np.array([11.7, 29.1, 30.4])).round(4)
    given_as = point * ([-1, -1, 1] if ras else 1)
    options = LesionOptions(frame="ras" if ras else "lps", point_mm=point_mm)
    found = read_lesion(text(given_as), scan_of(grid, None), options).array
    wanted = np.linalg.norm(grid.positions_mm() - point, axis=-1) <= point_mm / 2
    wanted[tuple(grid.to_index(point).round().astype(int))] = True
    assert np.array_equal(found, wanted)
    np.testing.assert_allclose(want(text(given_as), options).points_mm, [point], atol=1e-9)


def test_a_ball_keeps_its_voxel_where_it_is_smaller_than_one():
    found = read_lesion(text(MIDDLE), scan_of(SMALL, None), LesionOptions(point_mm=0.1)).array
    assert np.array_equal(np.argwhere(found), [[9, 20, 22]])


def test_a_point_near_the_border_is_kept_and_said():
    (lesion,) = read_lesions(text(SMALL.to_lps(np.array([0, 20, 20]))), scan_of(SMALL, None))
    assert lesion.first[0] == 0 and lesion.measured == "point" and lesion.share == 1.0
    assert "touches the border of the scan (first slice)" in " ".join(lesion.notes)


def test_a_point_in_the_wrong_frame_is_refused_with_the_repair():
    wrong = MIDDLE * [-1, -1, 1]
    with pytest.raises(
        LesionError, match=r"lies outside the scan, .* Taken as RAS it would lie inside: check --frame ras"
    ):
        read_lesion(text(wrong), scan_of(SMALL, None))
    with pytest.raises(LesionError, match=r"given as RAS\) lies outside .* would lie inside: check --frame lps"):
        read_lesion(text(MIDDLE), scan_of(SMALL, None), LesionOptions(frame="ras"))
    with pytest.raises(LesionError, match="Check the point, or give the scan it belongs to"):
        read_lesion("900,900,900", scan_of(SMALL, None))


@settings(max_examples=30, deadline=None)
@given(angles=st.tuples(st.floats(-40, 40), st.floats(-180, 180)), ras=st.booleans(), seed=st.integers(0, 9999))
def test_a_box_holds_the_voxels_whose_centres_it_holds(angles, ras, seed):
    grid = Geometry((15, 30, 30), np.array([2.0, 0.7, 0.8]), np.array([-50.0, 30.0, 7.0]), turned(*angles))
    rng = np.random.default_rng(seed)
    middle = grid.to_lps(np.array([7.3, 14.2, 15.1]))
    low, high = middle - rng.uniform(0.5, 6, 3), middle + rng.uniform(0.5, 6, 3)
    corners = np.stack([np.where(rng.random(3) < 0.5, low, high), np.zeros(3)])
    corners[1] = low + high - corners[0]  # any two opposite corners
    given_as = corners * ([-1, -1, 1] if ras else 1)
    source = "box:" + ",".join(f"{mm:.6f}" for mm in given_as.ravel())
    (lesion,) = read_lesions(source, scan_of(grid, None), LesionOptions(frame="ras" if ras else "lps"))
    places = grid.positions_mm()
    wanted = ((places >= low - 1e-5) & (places <= high + 1e-5)).all(axis=-1)
    wanted[tuple(grid.to_index(middle := (low + high) / 2).round().astype(int))] = True
    found = np.zeros(grid.shape, dtype=bool)
    found[tuple(slice(a, a + n) for a, n in zip(lesion.first, lesion.mask.array.shape, strict=True))] = (
        lesion.mask.array
    )
    assert np.array_equal(found, wanted) and lesion.measured == "box"
    assert lesion.mask.geometry.same_as(
        Geometry(lesion.mask.array.shape, grid.spacing_mm, grid.to_lps(np.array(lesion.first)), grid.direction)
    )


def test_a_box_half_outside_is_said_and_one_beyond_is_refused():
    grid = grid_of(AXES, (2.0, 1.0, 1.0), (20, 40, 40))
    low = grid.origin_mm + np.array([-2.5, 9.5, 9])
    box = "box:" + text([*low, *(low + 10)])
    (lesion,) = read_lesions(box, scan_of(grid, None))
    assert lesion.share == pytest.approx(0.8, abs=0.02)
    assert "18.8 % of the lesion lies outside the scan and is left out" in lesion.notes
    far = "box:" + text([*(low - 40), *(low - 30)])
    with pytest.raises(LesionError, match="0% of the lesion lies in the scan, at least half is needed"):
        read_lesion(far, scan_of(grid, None))
    with pytest.raises(LesionError, match="0% of the lesion lies in the scan"):
        read_lesion("box:-1e9,-1e9,-1e9,1e9,1e9,1e9", scan_of(grid, None))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1,2", "a point is written x,y,z"),
        ("1;2;3", "a point is written x,y,z"),
        ("1,2,3,4", "a point is written x,y,z"),
        ("(1, 2, 3)", "a point is written x,y,z"),
        ("box:1,2,3,4,5", "a box is written box:x0,y0,z0,x1,y1,z1"),
        ("box: 1,2,3,4,5,nan", "a box is written box:x0,y0,z0,x1,y1,z1"),
        ("box:1,2,3,1,5,6", "the box is flat"),
        (
            "nowhere.nii.gz",
            r"nowhere.nii.gz: no such file or folder; check the path .* Known: a lesion is a mask image",
        ),
        ("", "no lesion is given.*with --field lung none is needed"),
    ],
)
def test_text_that_is_no_place_is_refused_in_words(source, message):
    with pytest.raises(LesionError, match=message):
        read_lesion(source, scan_of(SMALL, None))
    with pytest.raises(LesionError, match=message):
        want(source)


def write_boxes(path, rows, header="sop_instance_uid,xmin,ymin,xmax,ymax"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return path


def test_pixel_boxes_land_on_their_images(tmp_path):
    slices = slices_of(SMALL)
    rows = [(slices[z].SOPInstanceUID, 5 + z, 10, 20, 30) for z in (6, 7, 8)] + [("1.2.3", 0, 0, 5, 5)]
    path = write_boxes(tmp_path / "boxes.csv", rows, " SOP_instance_UID ,xmin,ymin,xmax,ymax")
    (lesion,) = read_lesions(path, scan_of(SMALL, slices))
    wanted = np.zeros(SMALL.shape, dtype=bool)
    for z in (6, 7, 8):
        wanted[z, 10:31, 5 + z : 21] = True  # counted from 0, both ends included
    assert np.array_equal(read_lesion(path, scan_of(SMALL, slices)).array, wanted)
    assert lesion.measured == "box" and "1 boxes of other series left" in lesion.notes
    assert want(path).sop_uids == {row[0] for row in rows}


def test_pixel_boxes_that_leave_the_image_or_skip_slices_are_said(tmp_path):
    slices = slices_of(SMALL)
    rows = [(slices[z].SOPInstanceUID, 39, 10, 48, 19) for z in (6, 8)]
    (lesion, _) = read_lesions(
        write_boxes(tmp_path / "b.csv", rows), scan_of(SMALL, slices), LesionOptions(lesions="each")
    )
    assert lesion.share == 0.5 and lesion.name == "1"
    said = " ".join(lesion.notes)
    assert "1 slices between them have no box" in said and "50.0 % of the lesion lies outside the scan" in said


def test_pixel_boxes_that_cannot_be_used_are_refused(tmp_path):
    slices = slices_of(SMALL)
    rows = [(slices[6].SOPInstanceUID, 5, 10, 20, 30)]
    good = write_boxes(tmp_path / "good.csv", rows)
    with pytest.raises(LesionError, match=r"the scan is no DICOM series\. Give the DICOM scan, or the box in mm"):
        read_lesion(good, scan_of(SMALL, None))
    other = slices_of(SMALL)
    series = other[0].SeriesInstanceUID
    with pytest.raises(LesionError, match=f"none of its 1 boxes lies on an image of the chosen series {series}"):
        read_lesion(good, scan_of(SMALL, other))
    bad = {
        "min above max": ([(slices[6].SOPInstanceUID, 25, 10, 20, 30)], None, r"row 2 is no box \(.*xmin='25'"),
        "no number": ([(slices[6].SOPInstanceUID, "x", 10, 20, 30)], None, r"row 2 is no box"),
        "no column": ([("1", 2)], "sop_instance_uid,xmin", r"lacks the columns ymin, xmax, ymax \(found: sop_instance"),
        "semicolons": ([], "sop_instance_uid;xmin;ymin;xmax;ymax", "separated by commas"),
        "no row": ([], None, "holds no box"),
        "beyond": ([(slices[6].SOPInstanceUID, 125, 10, 220, 30)], None, "0% of the lesion lies in the scan"),
    }
    for name, (rows, header, message) in bad.items():
        path = write_boxes(tmp_path / f"{name}.csv", rows, header or "sop_instance_uid,xmin,ymin,xmax,ymax")
        with pytest.raises(LesionError, match=message):
            read_lesion(path, scan_of(SMALL, slices))


def test_the_boxed_tumour_of_a_real_scan_is_in_every_slice(shared_data):
    source = shared_data / "lung_dx_a0002" / "tumour_boxes_px.csv"
    scan = open_scan(shared_data / "lung_dx_a0002", wanted=want(source))
    (lesion,) = read_lesions(source, scan)
    rows = [row for row in csv.DictReader(source.open()) if row["sop_instance_uid"] in scan.identity.sop_uids]
    assert len(rows) == lesion.mask.array.any(axis=(1, 2)).sum() == lesion.mask.array.shape[0]
    assert len({row["series"] for row in rows}) == 1 and len(rows) in (8, 10)
    whole = read_lesion(source, scan).array
    for row in rows:
        z = scan.identity.sop_uids.index(row["sop_instance_uid"])
        box = np.argwhere(whole[z])
        assert box.min(0).tolist() == [int(row["ymin"]), int(row["xmin"])]
        assert box.max(0).tolist() == [int(row["ymax"]), int(row["xmax"])]
        assert abs(scan.geometry.to_lps(np.array([z, 0, 0]))[2] - float(row["z_mm"])) < 0.1
    inside = scan.read(lesion.first[0], lesion.first[0] + lesion.mask.array.shape[0] - 1).array
    part = inside[:, lesion.first[1] :, lesion.first[2] :][
        :, : lesion.mask.array.shape[1], : lesion.mask.array.shape[2]
    ]
    assert ((part > -100) & lesion.mask.array).any(axis=(1, 2)).all()  # soft tissue in the box on every slice


def test_the_tumour_points_of_a_real_collection_parse(shared_data):
    rows = list(csv.DictReader((shared_data / "nsclc_radiogenomics" / "tumour_points_lps_mm.csv").open()))
    assert len(rows) == 144
    for row in rows:
        place = [row[name] for name in ("coordX", "coordY", "coordZ")]
        np.testing.assert_allclose(want(",".join(place)).points_mm, [[float(mm) for mm in place]])


def test_a_point_outside_every_series_says_in_which_frame_it_would_lie(shared_data):
    folder = shared_data / "lung_dx_a0002"
    with pytest.raises(
        LesionError, match=r"lies outside the scan.* Taken as RAS it would lie inside: check --frame ras"
    ):
        open_scan_of("100,200,200", folder)
    assert open_scan_of("100,200,200", folder, LesionOptions(frame="ras")).identity
    with pytest.raises(LesionError, match="0% of the lesion lies in the scan"):
        open_scan_of("box:0,0,900,10,10,910", folder)
