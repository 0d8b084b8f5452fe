"""What the rollout refuses: impossible arguments, spoilt attention, and a grid of another size."""

import numpy as np
import pytest
import torch

from genomic_vit import attention_rollout
from genomic_vit.models.attention import AttentionMap
from genomic_vit.models.rollout import patch_map
from tests.attentions import random_maps

FLAT = torch.full((2, 1, 4, 4), 0.25)


def spoilt(image: int, value: float) -> list[torch.Tensor]:
    layers = [FLAT.clone() for _ in range(3)]
    layers[1][image, 0, 2, 3] = value
    return layers


def spoilt_map() -> list[AttentionMap]:
    maps = random_maps(0, 3, 2, 1, 4)
    maps[2].k[1, 0, 3, 0] = float("nan")
    return maps


def large_map() -> AttentionMap:
    """Finite queries and keys whose products are not."""
    return AttentionMap(torch.full((1, 1, 4, 2), 1e25), torch.full((1, 1, 4, 2), 2e25), 0.5)


def half_moved_map() -> AttentionMap:
    (given,) = random_maps(0, 1, 1, 1, 4)
    return AttentionMap(given.q, given.k.to("meta"), given.scale)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attention": []}, "no layers were given; pass one attention map a layer"),
        ({"residual": 0.0}, "residual is 0.0; it must be between 0 and 1"),
        ({"residual": 1.5}, "residual is 1.5"),
        ({"residual": torch.tensor([0.5, float("nan"), 0.5])}, "residual is nan; it must be between 0 and 1"),
        ({"residual": [0.5, 0.5]}, "residual has 2 shares for 3 layers; pass one a layer"),
        ({"prefix_tokens": 0}, "query is 'cls' and prefix_tokens is 0; pass query='mean'"),
        ({"prefix_tokens": 4}, "prefix_tokens is 4 with 4 tokens; pass the number of CLS and registers, 0 to 3"),
        ({"query": 1}, "query is token 1 with 1 prefix tokens; pass 0 to 0"),
        ({"start_layer": 3}, "start_layer is 3 with 3 layers; pass 0 to 2"),
        ({"discard": 1.0}, "discard is 1.0; pass a share of at least 0 and below 1"),
        ({"method": "streamed"}, "'streamed', but matrices were given; pass AttentionMaps"),
        ({"attention": random_maps(0, 2, 1, 1, 4), "method": "streamed", "discard": 0.1}, "needs the whole matrix"),
        ({"attention": [FLAT, torch.full((2, 1, 5, 5), 0.2)]}, r"layers differ in \(b, n\): \[\(2, 4\), \(2, 5\)\]"),
        ({"attention": [FLAT, FLAT.to("meta")]}, "layers lie on cpu, meta; move them to one device"),
        ({"attention": spoilt(1, 0.5)}, r"layer 1, image 1: a row sums to 1.25, 1 was needed \(within 0.0001\)"),
        ({"attention": spoilt(1, 0.5), "fusion": "max", "check": True}, "layer 1, image 1: a row sums to 1.25"),
        ({"attention": spoilt(0, float("nan"))}, "layer 1, image 0: attention is NaN or infinite"),
        ({"attention": spoilt(0, -0.5), "check": True}, "layer 1, image 0: attention is as low as -0.5; pass it after"),
        ({"attention": spoilt_map()}, "layer 2, image 1: queries or keys are NaN or infinite"),
        ({"attention": [FLAT * 2]}, "layer 0, image 0: a row sums to 2, 1 was needed.*check=False where it was only"),
        ({"attention": [large_map()]}, "layer 0, image 0: products of queries and keys overflow.*1e\\+25 and 2e\\+25"),
        ({"attention": [large_map()], "check": True}, "layer 0, image 0: products of queries and keys overflow"),
        ({"prefix_tokens": 0, "query": 0}, "query is token 0 and prefix_tokens is 0; pass query='mean'"),
        ({"attention": [FLAT, FLAT.double()]}, "layers are of float32, float64; convert them to one precision"),
        ({"attention": [half_moved_map()]}, "layers lie on cpu, meta; move them to one device"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    given = {"attention": [FLAT] * 3} | arguments
    with pytest.raises(ValueError, match=message):
        attention_rollout(given.pop("attention"), **given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attention": [torch.ones(4, 4)]}, r"layer 0 is of shape \(4, 4\); pass \(b h n n\) each"),
        ({"attention": None}, r"no layers were given.*attn_implementation='eager'"),
        ({"attention": [None, None]}, r"layer 0 is None.*attn_implementation='eager'"),
        ({"attention": [FLAT, FLAT.numpy()]}, r"layer 1 is of type numpy\.ndarray; pass torch tensors \(b h n n\)"),
        ({"attention": [FLAT.to(torch.int64)]}, "layer 0 is of int64; pass float16, bfloat16, float32 or float64"),
        ({"residual": torch.full((3, 4), 0.5)}, r"residual is of shape \(3, 4\); pass one number, or one a layer"),
        ({"residual": np.full((3, 1), 0.5)}, r"residual is of shape \(3, 1\); pass one number, or one a layer"),
        ({"query": "CLS"}, "query is 'CLS'; pass 'cls', 'mean', or the number of a prefix token"),
        ({"fusion": "median"}, "fusion is 'median'; pass one of mean, max, min"),
        ({"method": "fast"}, "method is 'fast'; pass one of auto, dense, streamed"),
    ],
)
def test_arguments_of_another_kind_are_refused(arguments, message, unchecked_types):
    given = {"attention": [FLAT] * 3} | arguments
    with pytest.raises(ValueError, match=message):
        attention_rollout(given.pop("attention"), **given)


def test_unchecked_attention_is_taken_as_it_is():
    assert attention_rollout(spoilt(0, float("nan")), check=False).isnan().any()


def test_a_grid_of_other_size_is_refused():
    with pytest.raises(ValueError, match="a grid of 3 × 2 has 6 patches, the rollout 5; pass the image's own"):
        patch_map(torch.ones(1, 5), (3, 2))
