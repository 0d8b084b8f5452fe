"""Order, spacing, gaps and tilt, by slices whose voxels hold their own position."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genomic_vit import Geometry
from genomic_vit.imaging.errors import ScanError
from genomic_vit.imaging.scan import open_scan
from genomic_vit.imaging.stack import AIR_HU, STRAIGHT_MM, StackError, make_lattice, straighten
from tests.dicoms import SLOPE_MM, ct_header, ramp_at, write_series
from tests.scans import AXES, turned

SHAPE_PX, PIXEL_MM = (14, 17), np.array([1.1, 0.9])
STORED_HU = 0.05  # of one step of the stored numbers
TOLERANCE_HU = (
    STRAIGHT_MM * np.linalg.norm(SLOPE_MM) + STORED_HU / 2
)  # a slice may lie so far aside and count as straight


class Slices:
    """Slices of one direction at any places, whose HU are `ramp_at` their pixels' positions."""

    def __init__(self, direction: np.ndarray, first_pixel_mm: np.ndarray) -> None:
        self.direction, self.first_pixel_mm = direction, np.asarray(first_pixel_mm, dtype=float)

    def plane(self, k: int) -> Geometry:
        return Geometry((1, *SHAPE_PX), np.array([1.0, *PIXEL_MM]), self.first_pixel_mm[k], self.direction)

    def write(self, folder, order=None) -> None:
        header = ct_header()
        header.RescaleSlope, header.RescaleIntercept = STORED_HU, 0
        for number, k in enumerate(order if order is not None else range(len(self.first_pixel_mm))):
            plane = self.plane(k)
            volume = type("Plane", (), {"geometry": plane, "array": ramp_at(plane.positions_mm())})

            def edit(image, _, number=number, k=k):
                image.InstanceNumber, image.SOPInstanceUID = number, f"1.2.3.{k + 1}"

            write_series(folder, volume, edit, header, name=f"{number:03}")

    def check(self, scan) -> int:
        """Compare every voxel that lies between scanned pixels with the value of its place; how many there were."""
        volume = scan.read()
        position_mm = volume.geometry.positions_mm()
        along = (self.first_pixel_mm - self.first_pixel_mm[0]) @ self.direction
        rank = np.argsort(along[:, 0])
        here = (position_mm - self.first_pixel_mm[0]) @ self.direction
        offset = [np.interp(here[..., 0], along[rank, 0], along[rank, axis]) for axis in (1, 2)]
        index = np.stack([(here[..., axis] - offset[axis - 1]) / PIXEL_MM[axis - 1] for axis in (1, 2)], axis=-1)
        inside = ((index >= -1e-3) & (index <= np.array(SHAPE_PX) - 1 + 1e-3)).all(axis=-1)
        beyond = ((index <= -1.01) | (index >= np.array(SHAPE_PX) + 0.01)).any(axis=-1)
        assert np.abs(volume.array - ramp_at(position_mm))[inside].max() < TOLERANCE_HU
        assert (volume.array[beyond] == AIR_HU).all()
        return int(inside.sum())


def along_z(count, step_mm, start=(-5.0, -7.0, -20.0)):
    return np.array(start) + np.arange(count)[:, None] * np.array([0.0, 0.0, step_mm])


@pytest.mark.parametrize("tilt_deg", [-25, -3, 0, 12, 30])
def test_gantry_tilt_is_resampled_with_its_shear(tilt_deg, tmp_path):
    slices = Slices(turned(tilt_deg, 0), along_z(9, 3.0))
    slices.write(tmp_path)
    scan = open_scan(tmp_path)
    assert slices.check(scan) >= 9 * (SHAPE_PX[0] - 1) * SHAPE_PX[1]
    assert abs(scan.geometry.spacing_mm[0] - 3.0 * np.cos(np.deg2rad(tilt_deg))) < 1e-3
    assert abs(float(scan.facts["tilt_found_deg"]) - abs(tilt_deg)) < 0.1
    assert all(scan.identity.sop_uids) == (tilt_deg == 0)


def test_a_couch_that_moved_aside_is_followed(tmp_path):
    moved = along_z(8, 2.0)
    moved[5:, 0] += 3.3
    slices = Slices(AXES, moved)
    slices.write(tmp_path)
    slices.check(open_scan(tmp_path))


@pytest.mark.parametrize("missing", [(3,), (3, 4), (1, 6)])
@pytest.mark.parametrize("tilt_deg", [0, 15])
def test_missing_slices_are_interpolated_on_request(missing, tilt_deg, tmp_path):
    places = np.delete(along_z(10, 2.5), missing, axis=0)
    slices = Slices(turned(tilt_deg, 0), places)
    slices.write(tmp_path)
    with pytest.raises(ScanError, match=r"apart \(usually .* pass --on-gap resample"):
        open_scan(tmp_path)
    scan = open_scan(tmp_path, on_gap="resample")
    assert scan.geometry.shape[0] == 10
    slices.check(scan)
    if not tilt_deg:
        assert [not one for one in scan.identity.sop_uids] == [k in missing for k in range(10)]


def test_part_of_a_resampled_scan_is_that_part_of_the_whole(tmp_path):
    Slices(turned(15, 0), np.delete(along_z(10, 2.5), 4, axis=0)).write(tmp_path)
    scan = open_scan(tmp_path, on_gap="resample")
    whole = scan.read()
    for first, last in ((0, 0), (3, 5), (4, 4), (9, 9)):
        part = scan.read(first, last)
        assert np.array_equal(part.array, whole.array[first : last + 1])
        np.testing.assert_allclose(part.geometry.to_lps(np.zeros(3)), scan.geometry.to_lps(np.array([first, 0, 0])))


def test_slices_a_little_aside_count_as_straight_and_are_no_farther_off_than_that(tmp_path):
    """0.019 mm a slice, 0.094 over all, and one is missing."""
    step = turned(0, 0) @ np.array([0.40625, 0.0, -0.046875 * 0.40625])
    slices = Slices(turned(0, 0), np.delete(np.arange(6)[:, None] * step, 1, axis=0))
    slices.write(tmp_path)
    assert slices.check(open_scan(tmp_path, on_gap="resample")) > 0


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_direction_spacing_order_and_gap_gives_values_of_their_places(data, tmp_path_factory):
    draw = data.draw
    about_x, about_z = draw(st.floats(-30, 30)), draw(st.floats(-180, 180))
    flips = np.array([1.0, draw(st.sampled_from([-1.0, 1.0])), draw(st.sampled_from([-1.0, 1.0]))])
    direction = turned(about_x, about_z) * flips
    direction[:, 0] = np.cross(direction[:, 2], direction[:, 1])
    count, step_mm = draw(st.integers(3, 9)), draw(st.floats(0.4, 8.0))
    lean = np.array([draw(st.floats(-0.5, 0.5)), draw(st.floats(-0.5, 0.5))]) * draw(st.sampled_from([0, 1]))
    step = direction @ np.array([step_mm, *(lean * step_mm)])
    places = np.array([-30.0, 12.0, -45.0]) + np.arange(count)[:, None] * step
    gap = draw(st.integers(1, count - 2))
    missing = count >= 5 and draw(st.booleans())
    slices = Slices(direction, np.delete(places, gap, axis=0) if missing else places)
    folder = tmp_path_factory.mktemp("series")
    slices.write(folder, draw(st.permutations(range(len(slices.first_pixel_mm)))))
    scan = open_scan(folder, on_gap="resample")
    assert scan.geometry.shape[0] == count
    assert slices.check(scan) > 0
    if missing:
        with pytest.raises(ScanError, match="--on-gap resample"):
            open_scan(folder)


@given(st.lists(st.floats(-0.04, 0.04), min_size=4, max_size=30), st.floats(0.6, 8.0))
def test_rounded_positions_are_even_and_a_lost_slice_is_not(noise_mm, step_mm):
    places = np.arange(len(noise_mm)) * step_mm + np.array(noise_mm)

    def lay(z_mm):
        lattice, _ = make_lattice(np.outer(z_mm, [0, 0, 1.0]), np.array([1.0, 0, 0, 0, 1, 0]), (1, 1), (4, 4))
        return straighten(lattice, "error", [str(k) for k in range(len(z_mm))])

    assert lay(places).geometry.shape[0] == len(places)
    with pytest.raises(StackError, match="--on-gap resample"):
        lay(np.delete(places, len(places) // 2))


def test_a_position_far_aside_is_refused(tmp_path):
    places = along_z(8, 2.0)
    places[3, 0] += 40
    Slices(AXES, places).write(tmp_path)
    with pytest.raises(
        ScanError, match=r"003 lies 40\.0 mm aside of the line of the others; its position must be wrong"
    ):
        open_scan(tmp_path, on_gap="resample")


def test_a_step_no_gantry_makes_is_refused(tmp_path):
    Slices(AXES, along_z(8, 2.0) + np.arange(8)[:, None] * np.array([0, 2.5, 0])).write(tmp_path)
    with pytest.raises(ScanError, match="step aside by 51 degrees, a gantry tilts 40 at most"):
        open_scan(tmp_path)
