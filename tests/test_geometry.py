import numpy as np
import pytest

from genomic_vit import Geometry
from tests.scans import grid_of, turned


def test_positions_by_hand():
    grid = Geometry((2, 3, 4), [5.0, 2.0, 1.0], [10.0, 20.0, 30.0], np.eye(3)[:, ::-1])
    np.testing.assert_allclose(grid.to_lps([1, 2, 3]), [10 + 3 * 1, 20 + 2 * 2, 30 + 1 * 5])
    np.testing.assert_allclose(grid.to_index([13, 24, 35]), [1, 2, 3])
    np.testing.assert_allclose(grid.positions_mm()[1, 2, 3], [13, 24, 35])


def test_index_and_position_are_inverse_on_an_oblique_grid():
    grid = grid_of(turned(20, -35))
    index = np.random.default_rng(0).uniform(-5, 50, (100, 3))
    np.testing.assert_allclose(grid.to_index(grid.to_lps(index)), index, atol=1e-10)


def test_same_as_compares_corners_not_numbers():
    grid = grid_of()
    assert grid.same_as(grid_of(spacing_mm=(2.5, 0.7, 0.70001)))  # 0.001 mm at the far corner
    assert not grid.same_as(grid_of(spacing_mm=(2.5, 0.7, 0.701)))
    assert not grid.same_as(grid_of(shape=(24, 100, 95)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (2, 3)}, r"shape is \(2, 3\); needed are three sizes"),
        ({"shape": (0, 3, 4)}, "sizes of at least 1"),
        ({"spacing_mm": [1, 1]}, r"spacing_mm is \[1.0, 1.0\]; needed are finite numbers of shape \(3,\)"),
        ({"spacing_mm": [1, 0, 1]}, "it must be positive"),
        ({"origin_mm": [0, np.nan, 0]}, "origin_mm is .*finite"),
        ({"direction": [[1, 0, 0], [0, 1, 0.2], [0, 0, 1]]}, "not at right angles .* must be resampled first"),
    ],
)
def test_impossible_geometry_is_refused(change, message):
    given = {"shape": (2, 3, 4), "spacing_mm": [1, 1, 1], "origin_mm": [0, 0, 0], "direction": np.eye(3)} | change
    with pytest.raises(ValueError, match=message):
        Geometry(**given)
