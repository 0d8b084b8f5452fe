import matplotlib.image
import numpy as np

from genomic_vit.config import SlabConfig
from genomic_vit.data.slab import cut_slab
from genomic_vit.evaluation.overlay import describe, draw_overlay, middle_stack
from tests.scans import ball, chest, grid_of


def test_the_nine_slices_shown_are_those_around_the_lesion():
    lesion = np.zeros((20, 4, 4), bool)
    lesion[11] = True
    assert middle_stack(lesion) == 7
    lesion[:] = False
    lesion[0] = True
    assert middle_stack(lesion) == 0
    lesion[:] = False
    lesion[19] = True
    assert middle_stack(lesion) == 11


def test_heat_is_painted_where_it_is_and_only_on_the_right(tmp_path):
    grid = grid_of()
    slab = cut_slab(chest(grid), ball(grid), SlabConfig())
    even = np.ones_like(slab.hu)
    hot = even.copy()
    hot[:, : even.shape[1] // 2, : even.shape[2] // 2] = 3.0  # anterior right quarter of every slice
    pictures = []
    for name, heat in (("even", even), ("hot", hot)):
        draw_overlay(slab, heat, (-1350.0, 150.0), "mutant: probability 0.50", tmp_path / f"{name}.png")
        pictures.append(matplotlib.image.imread(tmp_path / f"{name}.png")[..., :3])
    changed = np.abs(pictures[0] - pictures[1]).max(-1) > 0.1
    height, width = changed.shape
    panel = int(width * 0.46)
    assert changed[int(height * 0.12) :, :panel].mean() < 0.001
    painted = changed[int(height * 0.12) :, panel : int(width * 0.9)]
    assert 0.15 < painted.mean() < 0.35


def test_answers_in_words():
    assert describe(("EGFR", "KRAS"), np.array([0.123, np.nan])) == "EGFR: probability 0.12"
