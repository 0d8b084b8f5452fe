"""The MLP that keeps less, against its layers one after the other."""

import pytest
import torch
from torch import nn

from genomic_vit import ViT
from genomic_vit.models import mlp as mlp_module
from genomic_vit.models.mlp import spare_rows, spared_mlp

IMAGES, TOKENS, WIDTH, HIDDEN = 2, 11, 6, 15


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(mlp_module, "PIECE", 4)  # 22 tokens of two images do not divide into it


def parts(dropout: float, dtype: torch.dtype) -> tuple[nn.LayerNorm, nn.Sequential, torch.Tensor]:
    torch.manual_seed(0)
    norm = nn.LayerNorm(WIDTH, eps=1e-3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    mlp = nn.Sequential(
        nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Dropout(dropout), nn.Linear(HIDDEN, WIDTH), nn.Dropout(dropout)
    )
    return norm.to(dtype), mlp.to(dtype), torch.randn(IMAGES, TOKENS, WIDTH, dtype=dtype, requires_grad=True)


def answers(dropout: float, dtype: torch.dtype, autocast: bool = False, training: bool = True) -> list[list]:
    """Output and all gradients, plain and spared."""
    norm, mlp, tokens = parts(dropout, dtype)
    mlp.train(training)
    weight, found = torch.linspace(-1, 1, tokens.numel()).view_as(tokens).to(dtype), []
    for answer in (lambda: mlp(norm(tokens)), lambda: spared_mlp(norm, mlp, tokens)):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = answer()
        found.append([out, *torch.autograd.grad((out * weight).sum(), [tokens, *norm.parameters(), *mlp.parameters()])])
    return found


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_output_gradients_and_draws_are_those_of_the_layers(dropout, training):
    for plain, spared in zip(*answers(dropout, torch.float64, training=training), strict=True):
        torch.testing.assert_close(spared, plain, rtol=0, atol=1e-12)


def test_under_autocast_dtypes_are_those_of_the_layers():
    for plain, spared in zip(*answers(0.3, torch.float32, autocast=True), strict=True):
        assert spared.dtype == plain.dtype
        torch.testing.assert_close(spared, plain, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_of_what_is_kept_norm_and_gelu_are_missing(dropout):
    norm, mlp, tokens = parts(dropout, torch.float32)
    weights = {part.data_ptr() for part in (*norm.parameters(), *mlp.parameters())}
    kept = []
    for answer in (lambda: mlp(norm(tokens)), lambda: spared_mlp(norm, mlp, tokens)):
        memory: dict[int, int] = {}

        def note(part: torch.Tensor, memory: dict[int, int] = memory) -> torch.Tensor:
            memory[part.untyped_storage().data_ptr()] = part.untyped_storage().nbytes()
            return part

        with torch.autograd.graph.saved_tensors_hooks(note, lambda part: part):
            out = answer()
        kept.append(sum(size for place, size in memory.items() if place not in weights))
        del out
    assert kept[0] - kept[1] >= IMAGES * TOKENS * (WIDTH + HIDDEN) * 4


def test_float64_stays_what_it_is_under_autocast():
    for plain, spared in zip(*answers(0.0, torch.float64, autocast=True), strict=True):
        torch.testing.assert_close(spared, plain, rtol=0, atol=1e-12)


def test_room_is_counted_in_the_rows_own_bytes():
    """Under autocast the MLP would keep half as many bytes; rows are float32."""
    norm, mlp, tokens = parts(0.3, torch.float32)
    assert spare_rows(norm, mlp, tokens) == spare_rows(norm.double(), mlp.double(), tokens.double()) == HIDDEN
    with torch.autocast("cpu", torch.bfloat16):
        assert spare_rows(norm, mlp, tokens) == HIDDEN // 2
        assert spare_rows(norm, mlp, tokens.double()) == HIDDEN
    with torch.no_grad():
        assert spare_rows(norm, mlp, tokens) == 0


class Adapted(nn.Linear):
    """As an adapter would change a layer."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return super().forward(tokens) * 2


def change(name: str, norm: nn.Module, mlp: nn.Sequential) -> nn.Module:
    """The norm after one change to it or to the MLP."""
    if name == "subclass":
        mlp[0] = Adapted(WIDTH, HIDDEN)
    elif name == "activation":
        mlp[1] = nn.ReLU()
    elif name == "approximate":
        mlp[1] = nn.GELU("tanh")
    elif name == "another dropout":
        mlp[2] = nn.AlphaDropout(0.3)
    elif name == "no bias":
        mlp[3] = nn.Linear(HIDDEN, WIDTH, bias=False)
    elif name == "another norm":
        return nn.RMSNorm(WIDTH)
    elif name == "no norm":
        return nn.Identity()
    elif name == "hook":
        mlp[3].register_forward_hook(lambda *_: None)
    elif name == "hook of all":
        mlp.register_full_backward_hook(lambda *_: None)
    elif name == "parametrized":
        nn.utils.parametrizations.weight_norm(mlp[0])
    elif name == "frozen":
        mlp[3].weight.requires_grad_(False)
    return norm


CHANGES = (
    "subclass", "activation", "approximate", "another dropout", "no bias", "another norm", "no norm", "hook",
    "hook of all", "parametrized", "frozen",
)  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_it_stands_for_no_other_layers(name):
    norm, mlp, tokens = parts(0.0, torch.float32)
    assert spare_rows(norm, mlp, tokens) == HIDDEN
    assert spare_rows(change(name, norm, mlp), mlp, tokens) == 0


def test_a_block_whose_mlp_was_changed_takes_its_layers():
    torch.manual_seed(0)
    vit = ViT((40, 44), patch_px=4, width=WIDTH, depth=2, heads=2)
    image = torch.randn(1, 1, 40, 44)
    assert vit(image).attention[0].mean_rows.shape[1] == 6 * WIDTH  # 2 d, and 4 d for what the MLP leaves out
    vit.blocks[0].mlp[0] = Adapted(WIDTH, 4 * WIDTH)
    seen = vit(image)
    assert seen.attention[0].mean_rows.shape[1] == 2 * WIDTH
    with torch.no_grad():
        torch.testing.assert_close(vit(image).logits, seen.logits)


def test_second_derivatives_are_refused():
    norm, mlp, tokens = parts(0.0, torch.float64)
    (slope,) = torch.autograd.grad(mlp(norm(tokens)).sum(), tokens, create_graph=True)
    assert slope.requires_grad
    with pytest.raises(RuntimeError, match="create_graph asks for second; pass method='dense'"):
        torch.autograd.grad(spared_mlp(norm, mlp, tokens).sum(), tokens, create_graph=True)
