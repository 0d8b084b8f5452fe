"""Heat replaced when a network is tested, by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from einops import rearrange

from genomic_vit.data.datasets import AllStacks, window
from genomic_vit.data.grid import from_grid, stack_starts, to_grid
from genomic_vit.evaluation.given_heat import donors, given_heat
from genomic_vit.evaluation.inference import case_probabilities, stack_heat
from genomic_vit.models.genomic_vit import build_model
from genomic_vit.models.heat_sources import HEAT_SOURCES
from tests.benchmark_cohort import bright_cohort, small_run

CONFIG, CPU = small_run(), torch.device("cpu")
PREPARED = bright_cohort(4, lesions=2)
PATIENTS, SLABS, VIEW = PREPARED.cohort.patients, PREPARED.slabs, CONFIG.view


def network(channels=1):
    torch.manual_seed(0)
    return build_model(CONFIG, heat_channels=channels).eval()


def stacks():
    """Case, HU and lesion of every strided stack, in order."""
    dataset = AllStacks(SLABS, np.zeros((len(SLABS), 1)), VIEW)
    return [dataset[i] for i in range(len(dataset))]


@pytest.mark.parametrize("source", ["zero", "uniform", "lesion", "none"])
def test_swapped_probabilities_are_what_the_cnn_says_of_grid_and_given_heat(source):
    model = network(0 if source == "none" else 1)
    given = given_heat(source, SLABS, PATIENTS, VIEW, 0, own=None)
    ours = case_probabilities(model, SLABS, replace(VIEW, eval_flips=False), CPU, given=given)
    by_case = {}
    for item in stacks():
        grid, lesion = (rearrange(to_grid(part), "H W -> 1 1 H W") for part in (item.hu, item.lesion.float()))
        shown = HEAT_SOURCES[source](torch.ones_like(grid), lesion, item.case[None])
        with torch.inference_mode():
            logits = model.cnn(torch.cat([window(grid, VIEW.window_hu), shown], dim=1))
        by_case.setdefault(int(item.case), []).append(torch.sigmoid(logits[0]).numpy())
    np.testing.assert_allclose(ours, [np.mean(by_case[i], axis=0) for i in range(len(SLABS))], atol=1e-6)


def test_shuffled_heat_is_another_patients_heat_as_its_network_made_it():
    model = network()
    own = stack_heat(model, SLABS, VIEW, CPU)
    given = given_heat("shuffled", SLABS, PATIENTS, VIEW, 3, own=lambda: own)
    patient_of = np.concatenate(
        [[PATIENTS[i]] * len(stack_starts(len(slab.hu), VIEW.eval_stride)) for i, slab in enumerate(SLABS)]
    )
    for place, heat in enumerate(given):
        donor = int(np.argmin(np.abs(own - heat).sum(axis=(1, 2, 3))))
        assert np.array_equal(own[donor], heat) and patient_of[donor] != patient_of[place]


def test_stack_heat_is_the_heat_of_the_network():
    model, item = network(), stacks()[0]
    with torch.inference_mode():
        grid = rearrange(to_grid(window(item.hu, VIEW.window_hu)), "H W -> 1 1 H W")
        heat = from_grid(rearrange(model(grid).heat, "1 1 H W -> H W"))
    np.testing.assert_allclose(stack_heat(model, SLABS, VIEW, CPU)[0], heat.numpy(), atol=1e-5)


def test_every_patient_gives_once_and_depth_is_kept():
    chosen = donors(SLABS, PATIENTS, VIEW, 1)
    counts = [len(stack_starts(len(slab.hu), VIEW.eval_stride)) for slab in SLABS]
    first = np.concatenate([[0], np.cumsum(counts)])
    case_of = np.searchsorted(first, chosen, side="right") - 1
    givers = {}
    for case in range(len(SLABS)):
        mine = chosen[first[case] : first[case + 1]]
        assert (np.diff(mine) >= 0).all()
        givers[PATIENTS[case]] = {PATIENTS[i] for i in case_of[first[case] : first[case + 1]]}
    assert all(len(names) == 1 and patient not in names for patient, names in givers.items())
    assert len(set.union(*givers.values())) == len(givers)


def test_one_patient_cannot_shuffle():
    with pytest.raises(ValueError, match="one patient only"):
        donors(SLABS[:2], PATIENTS[:2], VIEW, 0)


def test_answer_names_the_head():
    model = network()
    ours = case_probabilities(model, SLABS, VIEW, CPU, answer="vit_logits")
    other = case_probabilities(model, SLABS, VIEW, CPU)
    model.vit.head.bias.data += 50
    assert (case_probabilities(model, SLABS, VIEW, CPU, answer="vit_logits") > 0.999).all()
    np.testing.assert_allclose(case_probabilities(model, SLABS, VIEW, CPU), other, atol=1e-7)
    assert not np.allclose(ours, other)
