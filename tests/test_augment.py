"""Augmentation moves whole stacks, scan and lesion together."""

import torch

from genomic_vit.config import AugmentConfig
from genomic_vit.data.augment import augment

NONE = AugmentConfig(flips=False, rotate_deg=0, scale=0, shift=0, noise_hu=0, jitter_hu=0)
FLIPS = AugmentConfig(flips=True, rotate_deg=0, scale=0, shift=0, noise_hu=0, jitter_hu=0)


def stack(seed=0, batch=1):
    return torch.rand(batch, 9, 12, 12, generator=torch.Generator().manual_seed(seed)) * 1000 - 900


def variants(image):
    turns = [torch.rot90(image, k, (-2, -1)) for k in range(4)]
    return turns + [turn.flip(-1) for turn in turns]


def test_all_zero_changes_nothing():
    hu, lesion = stack(), (stack(1) > -400).float()
    moved, mask = augment(hu, lesion, NONE, torch.Generator().manual_seed(0))
    torch.testing.assert_close(moved, hu, atol=1e-2, rtol=0)
    torch.testing.assert_close(mask, lesion, atol=1e-4, rtol=0)


def test_flips_give_all_eight_and_move_all_slices_and_the_lesion_alike():
    hu, found = stack(), set()
    for seed in range(80):
        moved, mask = augment(hu, hu, FLIPS, torch.Generator().manual_seed(seed))
        fits = [i for i, v in enumerate(variants(hu)) if torch.allclose(v, moved, atol=1e-1)]
        assert len(fits) == 1
        torch.testing.assert_close(mask, moved, atol=1e-1, rtol=0)
        found.add(fits[0])
    assert found == set(range(8))


def test_noise_and_offset_stay_within_their_bounds():
    config = AugmentConfig(flips=False, rotate_deg=0, scale=0, shift=0, noise_hu=0, jitter_hu=30)
    change = augment(stack(batch=64), stack(batch=64), config, torch.Generator().manual_seed(0))[0] - stack(batch=64)
    offset = change.mean(dim=(1, 2, 3))
    assert offset.abs().max() <= 30.1 and offset.std() > 10
    assert (change - offset[:, None, None, None]).abs().max() < 1e-1


def test_the_same_generator_gives_the_same_stacks():
    first, second = (augment(stack(), stack(), AugmentConfig(), torch.Generator().manual_seed(5))[0] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, augment(stack(), stack(), AugmentConfig(), torch.Generator().manual_seed(6))[0])
