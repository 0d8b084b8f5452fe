"""RTSTRUCT: contours fill their own planes wherever these lie, or are refused in words."""

import contextlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import generate_uid

from genomic_vit import Geometry
from genomic_vit.imaging.lesion import LesionError, LesionOptions, read_lesion, read_lesions, want
from tests.dicom_lesions import make_rtstruct, saved, scan_of, slices_of
from tests.scans import AXES, grid_of, turned

SMALL = grid_of(turned(12, 8), (2.0, 0.7, 0.8), (9, 20, 24))
RECTANGLE = np.array([(3.5, 4.5), (3.5, 14.5), (11.5, 14.5), (11.5, 4.5)])  # rows 4 to 11, columns 5 to 14


def moved(rows, columns):
    return RECTANGLE + np.array([rows, columns])


def on_slice(grid, z, outline=RECTANGLE):
    """An outline of rows and columns on slice z (which may lie between slices), in LPS mm."""
    return grid.to_lps(np.column_stack([np.full(len(outline), z), outline]))


def filled(grid, slices, rows=(4, 12), columns=(5, 15)):
    mask = np.zeros(grid.shape, dtype=bool)
    mask[list(slices), rows[0] : rows[1], columns[0] : columns[1]] = True
    return mask


def write(tmp_path, outlines, grid=SMALL, slices=None, **given):
    rois = outlines if isinstance(outlines, dict) else {"GTV-1": outlines}
    return saved(make_rtstruct(rois, slices or slices_of(grid), **given), tmp_path / "rtstruct.dcm")


def read(path, scan, **options):
    return read_lesion(path, scan, LesionOptions(**options)).array


def notes(path, scan, **options):
    return " ".join(read_lesions(path, scan, LesionOptions(**options))[0].notes)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(st.floats(-40, 40), st.floats(-180, 180)),
    spacing=st.tuples(st.floats(0.5, 8), st.floats(0.4, 1.2), st.floats(0.4, 1.2)),
    downwards=st.booleans(),
    seed=st.integers(0, 9999),
)
def test_outlines_in_any_direction_fill_the_voxels_whose_centres_they_hold(angles, spacing, downwards, seed, tmp_path):
    direction = turned(*angles) * (np.array([-1, 1, 1]) if downwards else 1)
    grid = Geometry((8, 20, 24), np.array(spacing).round(4), np.array([-101.3, 55.5, -3.25]), direction)
    rng = np.random.default_rng(seed)
    first, last = 2, 5
    sides = {z: (rng.integers(1, 8, 2) + 0.3, rng.integers(12, 18, 2) + 0.3) for z in range(first, last + 1)}
    wanted = np.zeros(grid.shape, dtype=bool)
    outlines = []
    for z, (low, high) in sides.items():
        wanted[z, int(low[0]) + 1 : int(high[0]) + 1, int(low[1]) + 1 : int(high[1]) + 1] = True
        corners = [(low[0], low[1]), (low[0], high[1]), (high[0], high[1]), (high[0], low[1])]
        outlines.append(on_slice(grid, z, np.array(corners)[:: rng.choice([-1, 1])]))
    path = write(tmp_path, [outlines[k] for k in rng.permutation(len(outlines))], grid)
    assert np.array_equal(read(path, scan_of(grid, None)), wanted)


def test_holes_follow_the_even_odd_rule_on_their_slice_only(tmp_path):
    hole = np.array([(5.5, 7.5), (5.5, 10.5), (8.5, 10.5), (8.5, 7.5)])
    path = write(tmp_path, [*(on_slice(SMALL, z) for z in (3, 4, 5)), on_slice(SMALL, 4, hole)])
    wanted = filled(SMALL, (3, 4, 5))
    wanted[4, 6:9, 8:11] = False
    assert np.array_equal(read(path, scan_of(SMALL, None)), wanted)


def test_contours_between_slices_go_to_the_slices_they_stand_for(tmp_path):
    path = write(tmp_path, [on_slice(SMALL, z + 0.4) for z in (3, 4, 5)])
    assert np.array_equal(read(path, scan_of(SMALL, None)), filled(SMALL, (3, 4, 5)))


def test_thinner_contours_than_slices_give_each_slice_its_nearest(tmp_path):
    wide = np.array([(3.5, 4.5), (3.5, 16.5), (11.5, 16.5), (11.5, 4.5)])
    outlines = [on_slice(SMALL, z, wide if z == 4.0 else RECTANGLE) for z in np.arange(2.75, 5.3, 0.25)]
    path = write(tmp_path, outlines)
    wanted = filled(SMALL, (3, 4, 5)) | filled(SMALL, (4,), columns=(5, 17))
    assert np.array_equal(read(path, scan_of(SMALL, None)), wanted)
    assert "contours 0.50 mm apart on slices 2.00 mm apart: a slice takes the nearest" in notes(
        path, scan_of(SMALL, None)
    )


def test_thicker_contours_than_slices_stand_for_the_slices_beside_them(tmp_path):
    outlines = [on_slice(SMALL, z, moved(0, shift)) for z, shift in ((1, 0), (4, 2), (7, 4))]
    path = write(tmp_path, outlines)
    wanted = (
        filled(SMALL, (0, 1, 2)) | filled(SMALL, (3, 4, 5), columns=(7, 17)) | filled(SMALL, (6, 7, 8), columns=(9, 19))
    )
    assert np.array_equal(read(path, scan_of(SMALL, None)), wanted)


def test_a_skipped_slice_is_filled_and_a_wide_gap_is_not(tmp_path):
    path = write(tmp_path, [on_slice(SMALL, z) for z in (0, 1, 3, 4, 7, 8)])
    found = read(path, scan_of(SMALL, None))
    assert np.array_equal(found, filled(SMALL, (0, 1, 2, 3, 4, 7, 8)))
    said = notes(path, scan_of(SMALL, None))
    assert "1 skipped contour planes filled from their neighbours" in said
    assert "1 wider gaps between contours (up to 6.0 mm) left empty" in said


def test_one_contour_stands_for_one_slice(tmp_path):
    for place in (3, 3.5, 3.7):
        path = write(tmp_path, [on_slice(SMALL, place)])
        assert read(path, scan_of(SMALL, None)).any(axis=(1, 2)).sum() == 1


def test_points_and_open_contours_are_ignored_and_counted(tmp_path):
    outlines = [
        *(("CLOSED_PLANAR", on_slice(SMALL, z)) for z in (3, 4)),
        ("OPEN_PLANAR", on_slice(SMALL, 6)),
        ("POINT", on_slice(SMALL, 7)[:1]),
        ("POINT", on_slice(SMALL, 8)[:1]),
        ("CLOSED_PLANAR", on_slice(SMALL, 8)[:2]),
    ]
    path = write(tmp_path, outlines)
    assert np.array_equal(read(path, scan_of(SMALL, None)), filled(SMALL, (3, 4)))
    said = notes(path, scan_of(SMALL, None))
    for part in ("1 contours of type OPEN_PLANAR", "2 contours of type POINT", "1 closed contours of fewer than three"):
        assert f"{part} points ignored" in said or f"{part} ignored" in said


def test_planes_across_the_slices_fill_where_they_lie(tmp_path):
    """Contours drawn on sagittal planes 1 mm apart: a block of known corners, within half a voxel."""
    low, high = np.array([2.6, 3.4, 6.2]), np.array([6.4, 11.6, 15.8])
    columns = np.arange(low[2], high[2] + 1e-6, 1.0 / SMALL.spacing_mm[2])
    outlines = []
    for column in columns:
        corners = [(low[0], low[1]), (low[0], high[1]), (high[0], high[1]), (high[0], low[1])]
        outlines.append(SMALL.to_lps(np.array([(z, y, column) for z, y in corners])))
    path = write(tmp_path, outlines)
    found = np.argwhere(read(path, scan_of(SMALL, None)))
    assert np.abs(found.min(0) - np.ceil(low)).max() <= 1 and np.abs(found.max(0) - np.floor(high)).max() <= 1
    volume_mm3 = len(found) * np.prod(SMALL.spacing_mm)
    drawn_mm3 = np.prod((high - low)[:2] * SMALL.spacing_mm[:2]) * len(columns)
    assert abs(volume_mm3 / drawn_mm3 - 1) < 0.15
    assert "contours lie on planes 90.0 degrees askew of the scan's slices" in notes(path, scan_of(SMALL, None))


def test_planes_of_a_tilted_gantry_fill_where_they_lie(tmp_path):
    """A straightened scan, contours on the tilted slices as scanned: the voxels of the tilted block, by brute force."""
    grid = grid_of(AXES, (2.0, 0.7, 0.7), (20, 40, 40))
    tilt = np.deg2rad(15)
    normal = np.array([0, -np.sin(tilt), np.cos(tilt)])
    down, across = np.array([0, np.cos(tilt), np.sin(tilt)]), np.array([1.0, 0, 0])
    middle = grid.to_lps((np.array(grid.shape) - 1) / 2)
    places = np.arange(-3, 4) * 2.0 + 0.13
    corners = [(-5.1, -6.2), (-5.1, 6.2), (5.1, 6.2), (5.1, -6.2)]
    outlines = [np.array([middle + n * normal + a * down + b * across for a, b in corners]) for n in places]
    away = grid.positions_mm() - middle
    along, a, b = (away @ axis for axis in (normal, down, across))
    wanted = (along > places[0] - 1) & (along < places[-1] + 1) & (abs(a) < 5.1) & (abs(b) < 6.2)
    found = read(write(tmp_path, outlines, grid), scan_of(grid, None))
    centre_mm = [grid.positions_mm()[mask].mean(axis=0) for mask in (found, wanted)]
    assert np.linalg.norm(centre_mm[0] - centre_mm[1]) < 0.1
    assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.97


def test_an_roi_is_chosen_by_name_number_or_pattern(tmp_path):
    rois = {
        "GTV-1": [on_slice(SMALL, 3), on_slice(SMALL, 4)],
        "Carina": [on_slice(SMALL, 7)],
        "GTV-2": [on_slice(SMALL, 6, moved(8, 5))],
        "drawn by nobody": [],
    }
    path, scan = write(tmp_path, rois), scan_of(SMALL, None)
    one, two = filled(SMALL, (3, 4)), filled(SMALL, (6,), (12, 20), (10, 20))
    for roi, mask in {"gtv-1": one, "1": one, "3": two, "gtv*": one | two, "*-2": two}.items():
        assert np.array_equal(read(path, scan, roi=roi), mask), roi
    with pytest.raises(LesionError, match=r"holds 3 ROIs that draw something \(1 'GTV-1', 2 'Carina', 3 'GTV-2'\)"):
        read(path, scan)
    with pytest.raises(LesionError, match=r"no ROI that draws something is 'Lung\*'; found: 1 'GTV-1', 2 'Carina'"):
        read(path, scan, roi="Lung*")


def test_references_decide_whether_it_belongs(tmp_path):
    drawn_on, same_frame, other = slices_of(SMALL), slices_of(SMALL), slices_of(SMALL)
    for image in same_frame:
        image.FrameOfReferenceUID = drawn_on[0].FrameOfReferenceUID
    path = write(tmp_path, [on_slice(SMALL, 3)], slices=drawn_on)
    asked = want(path)
    assert (asked.series_uid, asked.frame_uid) == (drawn_on[0].SeriesInstanceUID, drawn_on[0].FrameOfReferenceUID)
    np.testing.assert_allclose(SMALL.to_index(asked.points_mm), [[3, 7.5, 9.5]], atol=1e-3)
    assert read(path, scan_of(SMALL, drawn_on)).any()
    assert "placed on series" in notes(path, scan_of(SMALL, same_frame))
    uids = [images[0].SeriesInstanceUID for images in (drawn_on, other)]
    with pytest.raises(LesionError, match=rf"was drawn on series {uids[0]} .* the chosen scan is series {uids[1]} "):
        read(path, scan_of(SMALL, other))


def test_few_decimals_and_centres_on_the_line_do_not_lose_pixels(tmp_path):
    traced = np.array([(4, 5), (4, 14), (11, 14), (11, 5)])
    path = write(tmp_path, [on_slice(SMALL, z, traced) for z in (3, 4)], decimals=2)
    assert np.array_equal(read(path, scan_of(SMALL, None)), filled(SMALL, (3, 4)))


def odd_count(data):
    data.ROIContourSequence[0].ContourSequence[1].ContourData = ["1", "2", "3", "4"]


def bent(data):
    points = np.array(data.ROIContourSequence[0].ContourSequence[0].ContourData, float).reshape(-1, 3)
    points[0] += 7 * SMALL.direction[:, 0]
    data.ROIContourSequence[0].ContourSequence[0].ContourData = [f"{mm:.4f}" for mm in points.ravel()]


def in_micrometres(data):
    for contour in data.ROIContourSequence[0].ContourSequence:
        points = np.array(contour.ContourData, float).reshape(-1, 3) @ SMALL.direction * (1, 1000, 1000)
        contour.ContourData = [f"{mm:.4f}" for mm in (points @ SMALL.direction.T).ravel()]


def only_points(data):
    for contour in data.ROIContourSequence[0].ContourSequence:
        contour.ContourGeometricType = "POINT"


def away(data):
    for contour in data.ROIContourSequence[0].ContourSequence:
        contour.ContourData = [f"{float(mm) + 400:.4f}" for mm in contour.ContourData]


BAD = {
    "no triples": (odd_count, r"contour 2 of ROI 1 does not hold x\\y\\z triples in mm"),
    "bent": (bent, r"leave their common plane by up to .* mm; flat, parallel contours are needed"),
    "not mm": (in_micrometres, r"contours span \d+ mm; check their units"),
    "points only": (only_points, r"ROI 1 'GTV-1' has no closed contour \(found: 2 contours of type POINT\)"),
    "elsewhere": (away, r"0% of the lesion lies in the scan, at least half is needed"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_rtstruct_is_refused_in_words(what, tmp_path):
    spoil, message = BAD[what]
    data = make_rtstruct({"GTV-1": [on_slice(SMALL, z) for z in (3, 4)]}, slices_of(SMALL))
    spoil(data)
    with pytest.raises(LesionError, match=message):
        read(saved(data, tmp_path / "rtstruct.dcm"), scan_of(SMALL, None))


def test_an_rtstruct_cut_short_anywhere_is_refused(tmp_path):
    path, scan = write(tmp_path, [on_slice(SMALL, z) for z in (3, 4)]), scan_of(SMALL, None)
    whole = path.read_bytes()
    for length in np.linspace(1, len(whole) - 2, 150).astype(int):
        path.write_bytes(whole[:length])
        with pytest.raises(LesionError):
            read(path, scan)


def test_an_rtstruct_with_flipped_bytes_is_refused_or_read_without_a_crash(tmp_path):
    path, scan = write(tmp_path, [on_slice(SMALL, z) for z in (3, 4)]), scan_of(SMALL, None)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(150):
        spoilt = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            spoilt[place] = rng.integers(256)
        path.write_bytes(bytes(spoilt))
        with contextlib.suppress(LesionError):
            assert read(path, scan).shape == SMALL.shape


def test_rtstruct_of_an_unknown_frame_is_judged_by_position(tmp_path):
    slices = slices_of(SMALL)
    data = make_rtstruct({"GTV-1": [on_slice(SMALL, 3)]}, slices)
    del data.ReferencedFrameOfReferenceSequence
    data.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = ""
    path = saved(data, tmp_path / "rtstruct.dcm")
    assert "names neither series nor frame of reference" in notes(path, scan_of(SMALL, slices))
    data.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = generate_uid()
    with pytest.raises(LesionError, match="drawn on series of no stated UID"):
        read(saved(data, tmp_path / "rtstruct.dcm"), scan_of(SMALL, slices))
