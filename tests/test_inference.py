"""What evaluation averages: stacks and views, with heat turned back to where it belongs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from genomic_vit.config import ViewConfig
from genomic_vit.config_tree import from_tree
from genomic_vit.data.augment import VIEWS, turned, turned_back
from genomic_vit.data.slab import Slab
from genomic_vit.evaluation.inference import case_probabilities, slab_heat, slab_heats
from genomic_vit.models.genomic_vit import build_model
from tests.scans import grid_of

CONFIG = from_tree({"slab": {"tile_px": 16}, "vit": {"patch_px": 4, "width": 16, "depth": 2, "heads": 2}}, "here")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(CONFIG).eval()


def slab(hu):
    return Slab(hu, hu > 0, grid_of(shape=hu.shape), 10.0)


def noise(slices, seed=0):
    return np.random.default_rng(seed).uniform(-1350, 150, (slices, 16, 16)).astype(np.float32)


def test_the_eight_views_differ_and_come_back():
    stack = torch.from_numpy(noise(9))
    seen = [turned(stack, view) for view in range(VIEWS)]
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])
    assert all(torch.equal(turned_back(turned(stack, view), view), stack) for view in range(VIEWS))


def test_a_turned_lesion_gets_the_same_answer_and_its_heat_turns_with_it(model):
    hu = noise(13)
    for turn in (lambda a: np.rot90(a, 1, (1, 2)), lambda a: a[:, ::-1], lambda a: a[:, :, ::-1]):
        there = np.ascontiguousarray(turn(hu))
        for (p, heat), (p_turned, heat_turned) in [[slab_heat(model, slab(x), CONFIG.view, CPU) for x in (hu, there)]]:
            np.testing.assert_allclose(p, p_turned, atol=1e-6)
            np.testing.assert_allclose(turn(heat), heat_turned, atol=1e-5)
        once = replace(CONFIG.view, eval_flips=False)
        first, second = (slab_heat(model, slab(x), once, CPU)[1] for x in (hu, there))
        assert np.abs(turn(first) - second).max() > 1e-3  # the network itself is not blind to direction


def test_a_case_is_the_mean_of_all_its_stacks_and_views(model):
    hu = [noise(13, 1), noise(9, 2)]
    view = ViewConfig(window_hu=(-1000.0, 0.0), eval_stride=3)
    found = case_probabilities(model, [slab(x) for x in hu], view, CPU)
    for row, x, starts in zip(found, hu, ([0, 3, 4], [0]), strict=True):
        asked = []
        for start in starts:
            tiles = torch.from_numpy(x[start : start + 9])
            for k in range(4):
                for mirrored in (False, True):
                    one = [np.rot90(t[:, ::-1] if mirrored else t, k) for t in tiles.numpy()]
                    grid = np.vstack([np.hstack(one[3 * r : 3 * r + 3]) for r in range(3)])
                    grid = torch.from_numpy(np.clip((grid + 1000) / 1000, 0, 1))[None, None]
                    with torch.no_grad():
                        asked.append(torch.sigmoid(model(grid).logits))
        np.testing.assert_allclose(row, torch.cat(asked).mean(dim=0), atol=1e-6)


def test_turned_evaluation_of_a_network_that_never_saw_turns_is_refused():
    with pytest.raises(ValueError, match=r"view.eval_flips is on and augment.flips off.*both on or both off"):
        from_tree({"augment": {"flips": False}}, "here")


def test_slabs_asked_together_answer_as_each_alone():
    """Slabs of several stacks, more than a batch holds, so that a batch's border falls within a case."""
    torch.manual_seed(0)
    model = build_model(CONFIG).eval()
    generator = np.random.default_rng(0)
    slabs = [slab(generator.normal(-500, 300, (slices, 16, 16)).astype(np.float32)) for slices in (9, 14, 40, 11, 30)]
    view = replace(CONFIG.view, eval_stride=1)
    together = list(slab_heats(model, slabs, view, CPU))
    probability = case_probabilities(model, slabs, view, CPU)
    for (p, heat), of_case, one in zip(together, probability, slabs, strict=True):
        alone, its_heat = slab_heat(model, one, view, CPU)
        np.testing.assert_allclose(p, alone, atol=1e-6)
        np.testing.assert_allclose(p, of_case, atol=1e-6)
        np.testing.assert_allclose(heat, its_heat, atol=1e-5)
