"""DICOM SEG: frames land by their position whatever their order, grid or kind, or are refused in words."""

import contextlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless, generate_uid

from genomic_vit import Geometry
from genomic_vit.imaging.lesion import LesionError, LesionOptions, read_lesion, read_lesions, want
from tests.dicom_lesions import make_seg, reorder, saved, scan_of, slices_of
from tests.scans import AXES, grid_of, turned

SMALL = grid_of(turned(12, 8), (2.0, 0.7, 0.8), (9, 20, 24))


def some_mask(geometry=SMALL, low=(2, 4, 5), high=(6, 12, 15)):
    """A lesion without symmetry, so that no flip goes unseen."""
    mask = np.zeros(geometry.shape, dtype=bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    mask[low[0], low[1] : low[1] + 3, low[2] : low[2] + 2] = False
    mask[high[0] - 1, low[1], low[2] :] = False
    return mask


def read(path, scan, **options):
    return read_lesion(path, scan, LesionOptions(**options)).array


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(st.floats(-40, 40), st.floats(-180, 180)),
    spacing=st.tuples(st.floats(0.5, 8), st.floats(0.4, 1.2), st.floats(0.4, 1.2)),
    downwards=st.booleans(),
    kind=st.sampled_from(["BINARY", "FRACTIONAL", "LABELMAP"]),
    seed=st.integers(0, 9999),
)
def test_any_mask_in_any_direction_comes_back_voxel_for_voxel(angles, spacing, downwards, kind, seed, tmp_path):
    direction = turned(*angles) * (np.array([-1, 1, 1]) if downwards else 1)
    grid = Geometry((8, 11, 13), np.array(spacing).round(4), np.array([-101.3, 55.5, -3.25]), direction)
    rng = np.random.default_rng(seed)
    mask = (rng.random(grid.shape) < 0.2) & (rng.random(8) < 0.6)[:, None, None]
    mask[3, 4, 5] = True
    slices = slices_of(grid)
    seg = make_seg(slices, {"a": mask.astype(float) if kind == "FRACTIONAL" else mask}, kind)
    assert len(seg.PerFrameFunctionalGroupsSequence) == mask.any(axis=(1, 2)).sum()
    reorder(seg, list(rng.permutation(len(seg.PerFrameFunctionalGroupsSequence))))
    path = saved(seg, tmp_path / "seg.dcm")
    for scan in (scan_of(grid, slices), scan_of(grid, None)):
        assert np.array_equal(read(path, scan), mask)


def test_overlapping_segments_are_chosen_by_name_number_or_pattern(tmp_path):
    slices, scan = slices_of(SMALL), None
    scan = scan_of(SMALL, slices)
    one, two = some_mask(), some_mask(low=(4, 8, 8), high=(8, 16, 20))
    path = saved(make_seg(slices, {"Tumour": one, "Node 7": two}), tmp_path / "seg.dcm")
    assert (one & two).any()
    for roi, mask in {"1": one, "tumour": one, "2": two, "node*": two, "*": one | two}.items():
        assert np.array_equal(read(path, scan, roi=roi), mask), roi
    with pytest.raises(LesionError, match=r"holds 2 segments that draw something \(1 'Tumour', 2 'Node 7'\).*--roi"):
        read(path, scan)
    with pytest.raises(LesionError, match=r"no segment that draws something is 'GTV'; found: 1 'Tumour', 2 'Node 7'"):
        read(path, scan, roi="GTV")
    assert "1 'Tumour', 2 'Node 7' together" in " ".join(read_lesions(path, scan, LesionOptions(roi="*"))[0].notes)


def test_two_segments_of_one_name_need_the_number(tmp_path):
    slices = slices_of(SMALL)
    seg = make_seg(slices, {"Lesion": some_mask(), "lesion ": some_mask(low=(4, 8, 8), high=(8, 16, 20))})
    path = saved(seg, tmp_path / "seg.dcm")
    with pytest.raises(LesionError, match=r"'LESION' names 2 segments .* give the number with --roi"):
        read(path, scan_of(SMALL, slices), roi="LESION")


@pytest.mark.parametrize("fractional", ["PROBABILITY", "OCCUPANCY"])
def test_fractions_are_cut_at_one_half(fractional, tmp_path):
    slices = slices_of(SMALL)
    values = np.where(some_mask(), 0.49, 0.0)
    values[4, 6, 7:10] = (0.5, 0.51, 1.0)
    path = saved(make_seg(slices, {"a": values}, "FRACTIONAL", fractional_type=fractional), tmp_path / "seg.dcm")
    scan = scan_of(SMALL, slices)
    assert np.array_equal(np.argwhere(read(path, scan)), [[4, 6, 7], [4, 6, 8], [4, 6, 9]])
    notes = read_lesions(path, scan)[0].notes
    assert f"pixels with a {fractional.lower()} of at least 0.5 taken" in " ".join(notes)


def test_label_maps_hold_several_segments(tmp_path):
    slices = slices_of(SMALL)
    one, two = some_mask(), some_mask(low=(6, 12, 12), high=(8, 16, 20))
    path = saved(make_seg(slices, {"a": one, "b": two}, "LABELMAP"), tmp_path / "seg.dcm")
    assert np.array_equal(read(path, scan_of(SMALL, slices), roi="b"), two)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, ExplicitVRLittleEndian])
def test_compressed_frames_decode(syntax, tmp_path):
    wide = grid_of(SMALL.direction, (2.0, 0.7, 0.8), (9, 40, 48))
    slices = slices_of(wide)
    seg = make_seg(slices, {"a": some_mask(wide).astype(float)}, "FRACTIONAL", transfer_syntax_uid=syntax)
    assert np.array_equal(read(saved(seg, tmp_path / "seg.dcm"), scan_of(wide, slices)), some_mask(wide))


def by_position(drawn, masks, scan):
    """Voxel by voxel: the pixel of the drawn grid in which the centre lies; and whether it lies clear of a border."""
    exact = drawn.to_index(scan.positions_mm()) + 0.5
    index = np.floor(exact).astype(int)
    inside = ((index >= 0) & (index < drawn.shape)).all(axis=-1)
    clear = (np.abs(exact - exact.round()) > 0.02).all(axis=-1)
    return inside & masks[tuple(np.moveaxis(index.clip(0, np.array(drawn.shape) - 1), -1, 0))], clear


def other_grid(spacing, shape, direction, offset):
    centre = SMALL.to_lps((np.array(SMALL.shape) - 1) / 2)
    half = (np.array(shape) - 1) / 2 * np.array(spacing)
    return Geometry(shape, np.array(spacing), centre - direction @ half + np.array(offset), direction)


@pytest.mark.parametrize(
    "grid",
    [
        other_grid((1.1, 0.43, 0.57), (24, 40, 40), SMALL.direction, (0.31, 0.17, 0.23)),
        other_grid((5.3, 1.31, 1.17), (6, 16, 22), SMALL.direction, (0.31, 0.17, 0.23)),
        other_grid((1.7, 0.93, 0.71), (16, 24, 33), turned(0, 25), (0.31, 0.17, 0.23)),
        other_grid((1.7, 0.93, 0.71), (16, 24, 33), AXES * np.array([-1, 1, 1]), (0.31, 0.17, 0.23)),
    ],
    ids=["finer", "coarser", "turned", "downwards"],
)
def test_a_seg_of_another_series_lands_by_its_frame_of_reference(grid, tmp_path):
    shape = np.array(grid.shape)
    mask = some_mask(grid, shape // 4, shape - shape // 4)
    mask[shape[0] // 2] = False  # an empty frame between full ones is left out of the file
    slices, drawn_on = slices_of(SMALL), slices_of(grid, frame_uid=(frame := generate_uid()))
    for image in slices:
        image.FrameOfReferenceUID = frame
    path = saved(make_seg(drawn_on, {"a": mask}), tmp_path / "seg.dcm")
    scan = scan_of(SMALL, slices)
    wanted, clear = by_position(grid, mask, SMALL)
    assert clear.mean() > 0.8 and np.array_equal(read(path, scan)[clear], wanted[clear])
    notes = " ".join(read_lesions(path, scan)[0].notes)
    assert f"drawn on series {drawn_on[0].SeriesInstanceUID}, placed on series {slices[0].SeriesInstanceUID}" in notes


def test_a_seg_of_another_frame_of_reference_is_refused_with_both_uids(tmp_path):
    slices, others = slices_of(SMALL), slices_of(SMALL)
    path = saved(make_seg(others, {"a": some_mask()}), tmp_path / "seg.dcm")
    uids = [image.SeriesInstanceUID for image in (others[0], slices[0])]
    with pytest.raises(LesionError, match=rf"was drawn on series {uids[0]} .* the chosen scan is series {uids[1]} "):
        read(path, scan_of(SMALL, slices))
    assert "judged by position alone" in " ".join(read_lesions(path, scan_of(SMALL, None))[0].notes)


def test_frames_of_a_tilted_gantry_are_placed_by_the_shear(tmp_path):
    """Slices step 0.9 mm sideways each; the scan has been straightened, the SEG's frames have not."""
    step_mm = np.arange(SMALL.shape[0])[:, None] * 0.9 * SMALL.direction[:, 1]
    slices = slices_of(SMALL, shift_mm=step_mm)
    path = saved(make_seg(slices, {"a": some_mask()}), tmp_path / "seg.dcm")
    wanted = np.zeros(SMALL.shape, dtype=bool)
    for z in range(SMALL.shape[0]):
        row = np.floor(np.arange(SMALL.shape[1]) - z * 0.9 / SMALL.spacing_mm[1] + 0.5).astype(int)
        inside = (row >= 0) & (row < SMALL.shape[1])
        wanted[z, inside] = some_mask()[z, row[inside]]
    assert np.array_equal(read(path, scan_of(SMALL, slices)), wanted)


def test_a_single_frame_stands_for_one_slice(tmp_path):
    slices = slices_of(SMALL)
    mask = some_mask(low=(3, 4, 5), high=(4, 12, 15))
    seg = make_seg(slices, {"a": mask})
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    if "SpacingBetweenSlices" in measures:
        del measures.SpacingBetweenSlices
    assert np.array_equal(read(saved(seg, tmp_path / "seg.dcm"), scan_of(SMALL, slices)), mask)


def test_what_a_seg_asks_of_its_scan(tmp_path):
    slices = slices_of(SMALL)
    masks = {"a": some_mask(), "b": some_mask(low=(6, 12, 12), high=(8, 16, 20))}
    path = saved(make_seg(slices, masks), tmp_path / "seg.dcm")
    asked = want(path, LesionOptions(roi="b"))
    assert (asked.series_uid, asked.frame_uid) == (slices[0].SeriesInstanceUID, slices[0].FrameOfReferenceUID)
    assert asked.sop_uids <= {image.SOPInstanceUID for image in slices}
    index = SMALL.to_index(asked.points_mm)
    np.testing.assert_allclose(np.sort(index, axis=0), [[z, 9.5, 11.5] for z in (6, 7)], atol=1e-3)


def without_places(seg):
    for frame in seg.PerFrameFunctionalGroupsSequence:
        del frame.PlanePositionSequence


def of_zeros(seg):
    seg.PixelData = bytes(len(seg.PixelData))


def turned_once(seg):
    from pydicom.sequence import Sequence

    shared = seg.SharedFunctionalGroupsSequence[0]
    from copy import deepcopy

    for k, frame in enumerate(seg.PerFrameFunctionalGroupsSequence):
        frame.PlaneOrientationSequence = Sequence([deepcopy(shared.PlaneOrientationSequence[0])])
        if k == 1:
            frame.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 0, 1]
    del shared.PlaneOrientationSequence


BAD = {
    "no place": (without_places, "frame 1 has no position, orientation or pixel spacing in patient space"),
    "nothing set": (of_zeros, r"segment 1 'a' is empty \(no pixel set\); draw the lesion"),
    "two directions": (turned_once, "frames differ in direction or pixel spacing"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_seg_is_refused_in_words(what, tmp_path):
    spoil, message = BAD[what]
    slices = slices_of(SMALL)
    seg = make_seg(slices, {"a": some_mask()})
    spoil(seg)
    with pytest.raises(LesionError, match=message):
        read(saved(seg, tmp_path / "seg.dcm"), scan_of(SMALL, slices))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_a_seg_cut_short_anywhere_is_refused_or_whole(syntax, tmp_path):
    slices = slices_of(SMALL)
    fractions = make_seg(slices, {"a": some_mask().astype(float)}, "FRACTIONAL", transfer_syntax_uid=syntax)
    seg = make_seg(slices, {"a": some_mask()}) if syntax == ExplicitVRLittleEndian else fractions
    path, scan = saved(seg, tmp_path / "seg.dcm"), scan_of(SMALL, slices)
    whole, refused = path.read_bytes(), 0
    for length in [*np.linspace(1, len(whole) - 400, 60).astype(int), *range(len(whole) - 400, len(whole), 7)]:
        path.write_bytes(whole[:length])
        try:
            assert np.array_equal(read(path, scan), some_mask()), length
        except LesionError:
            refused += 1
    assert refused > 80


def test_a_seg_with_flipped_bytes_is_refused_or_read_without_a_crash(tmp_path, recwarn):
    slices = slices_of(SMALL)
    path, scan = saved(make_seg(slices, {"a": some_mask()}), tmp_path / "seg.dcm"), scan_of(SMALL, slices)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(120):
        spoilt = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            spoilt[place] = rng.integers(256)
        path.write_bytes(bytes(spoilt))
        with contextlib.suppress(LesionError):
            assert read(path, scan).shape == SMALL.shape
    assert not recwarn.list  # pydicom's words would quote what is in the file


def test_a_seg_between_the_slices_of_a_thick_scan_vanishes_aloud(tmp_path):
    fine = grid_of(AXES, (1.0, 0.7, 0.7), (20, 20, 20))
    thick = Geometry((3, 20, 20), np.array([8.0, 0.7, 0.7]), fine.origin_mm, AXES)
    path = saved(make_seg(slices_of(fine), {"a": some_mask(fine, (3, 4, 5), (6, 12, 12))}), tmp_path / "seg.dcm")
    with pytest.raises(LesionError, match=r"vanishes between the voxels of the scan .* draw it on the scan itself"):
        read(path, scan_of(thick, None))
