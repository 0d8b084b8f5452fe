"""Public checkpoints into our ViT. That transformers' own models give the same tokens: see ARCHITECTURE.md."""

import argparse
import os
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from genomic_vit import ViT, load_pretrained
from genomic_vit.models.adapt import resize_kernel
from genomic_vit.models.weight_file import PretrainedError
from tests.checkpoints import dinov2, google, hugging_face, mae, random_vit, timm

SCALED = {"layer_scale": 0.1}
DIST = "embeddings.distillation_token"

NAMINGS = {
    "timm": ({}, timm),
    "timm, positions without CLS": ({}, lambda vit: timm(vit, cls_row=False)),
    "timm, registers, positions without prefix": ({"registers": 4}, lambda vit: timm(vit, cls_row=False)),
    "timm, registers with positions": ({"registers": 4}, lambda vit: timm(vit, all_rows=True)),
    "DeiT distilled": ({"registers": 1}, lambda vit: {"model": timm(vit, others="dist_token", all_rows=True)}),
    "DeiT III": (SCALED, lambda vit: {"model": timm(vit, cls_row=False, scale="gamma_{}")}),
    "MAE": ({}, mae),
    "DINOv2": (SCALED, dinov2),
    "DINOv2 with registers": (SCALED | {"registers": 4}, dinov2),
    "DINOv2 in chunks": (SCALED, lambda vit: dinov2(vit, chunk=2)),
    "DINOv2 training": (
        SCALED,
        lambda vit: {
            "teacher": {f"backbone.{name}": value for name, value in dinov2(vit).items()},
            "student": {f"backbone.{name}": value * 0 for name, value in dinov2(vit).items()},
            "epoch": 7,
        },
    ),
    "wrapped": ({}, lambda vit: {"state_dict": {f"module.backbone.{n}": v for n, v in timm(vit).items()}, "epoch": 1}),
    "ViTModel": ({}, hugging_face),
    "ViTForImageClassification": ({}, lambda vit: hugging_face(vit, at="vit.")),
    "ViTModel in memory": ({}, lambda vit: hugging_face(vit, in_memory=True)),
    "DeiTModel": ({"registers": 1}, lambda vit: hugging_face(vit, others=DIST, all_rows=True)),
    "Dinov2Model": (SCALED, lambda vit: hugging_face(vit, dino=True)),
    "Dinov2Model in memory": (SCALED, lambda vit: hugging_face(vit, dino=True, in_memory=True)),
    "Dinov2WithRegistersForImageClassification": (
        SCALED | {"registers": 4},
        lambda vit: hugging_face(vit, dino=True, at="dinov2_with_registers."),
    ),
    "Google": ({}, lambda vit: google(vit, heads=3)),
    "big_vision": ({}, lambda vit: google(vit, heads=3, big_vision=True)),
    "our own": (SCALED | {"registers": 2}, lambda vit: {f"vit.{n}": v.clone() for n, v in vit.state_dict().items()}),
}


@pytest.mark.parametrize("image_px", [(16, 16), (16, 24)])
@pytest.mark.parametrize("name", NAMINGS)
def test_every_naming_gives_back_the_same_network(name, image_px, tmp_path):
    options, write = NAMINGS[name]
    theirs, ours = random_vit(image_px, **options), random_vit(image_px, seed=1, targets=1, **options)
    state = write(theirs)
    if isinstance(next(iter(state.values())), np.ndarray):
        file = tmp_path / "vit.npz"
        np.savez(file, **state)
    elif any(isinstance(value, dict) for value in state.values()):
        file = tmp_path / "vit.pth"
        torch.save(state, file)
    else:
        file = tmp_path / "vit.safetensors"
        save_file(state, file)
    report = load_pretrained(ours, file)
    image = torch.randn(2, 3, *image_px, dtype=torch.float64)
    wanted, seen = theirs(image), ours(image)
    torch.testing.assert_close(seen.tokens, wanted.tokens, rtol=0, atol=1e-9)
    for mine, other in zip(seen.attention, wanted.attention, strict=True):
        torch.testing.assert_close(mine.dense(), other.dense(), rtol=0, atol=1e-9)
    assert report.as_built == ("head.weight", "head.bias")
    assert set(report.loaded) == set(ours.state_dict()) - {"head.weight", "head.bias"}
    assert len(report.sha256) == 64
    assert load_pretrained(ours, state).loaded == report.loaded


def test_dinov2_with_registers_by_hand():
    """The forward pass as DINOv2 has it, from its state dict: positions on CLS and patches, registers put in later."""
    theirs = random_vit((16, 16), registers=4, layer_scale=0.3)
    state = dinov2(theirs)
    image = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    x = F.conv2d(image, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=4)
    x = torch.cat([state["cls_token"].expand(2, -1, -1), x.flatten(2).transpose(1, 2)], dim=1) + state["pos_embed"]
    x = torch.cat([x[:, :1], state["register_tokens"].expand(2, -1, -1), x[:, 1:]], dim=1)

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    for i in range(3):
        at = f"blocks.{i}."
        q, k, v = linear(norm(x, at + "norm1"), at + "attn.qkv").reshape(2, -1, 3, 3, 4).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-2, -1) / 4**0.5).softmax(-1) @ v
        x = x + state[at + "ls1.gamma"] * linear(mixed.transpose(1, 2).reshape(2, -1, 12), at + "attn.proj")
        hidden = F.gelu(linear(norm(x, at + "norm2"), at + "mlp.fc1"))
        x = x + state[at + "ls2.gamma"] * linear(hidden, at + "mlp.fc2")
    ours = random_vit((16, 16), seed=1, registers=4, layer_scale=1.0)
    load_pretrained(ours, state)
    torch.testing.assert_close(ours(image).tokens, norm(x, "norm"), rtol=0, atol=1e-9)


def test_layer_scale_is_folded_in_or_filled_up_exactly():
    image = torch.randn(2, 3, 16, 24, dtype=torch.float64)
    scaled, plain = random_vit(layer_scale=0.1), random_vit()
    folded, filled = random_vit(seed=1), random_vit(seed=1, layer_scale=0.1)
    assert "LayerScale: folded into" in str(load_pretrained(folded, timm(scaled)))
    assert "LayerScale: the checkpoint has none, so one" in str(load_pretrained(filled, timm(plain)))
    torch.testing.assert_close(folded(image).tokens, scaled(image).tokens, rtol=0, atol=1e-9)
    torch.testing.assert_close(filled(image).tokens, plain(image).tokens, rtol=0, atol=1e-9)


def test_absent_biases_are_zero():
    theirs = random_vit()
    with torch.no_grad():
        for block in theirs.blocks:
            block.attention.qkv.bias.zero_()
    state = {
        name: value for name, value in hugging_face(theirs).items() if not name.endswith(("key.bias", "query.bias"))
    }
    image = torch.randn(1, 3, 16, 24, dtype=torch.float64)
    for names in (state, {name: value for name, value in timm(theirs).items() if not name.endswith("qkv.bias")}):
        ours = random_vit(seed=1)
        load_pretrained(ours, names)
        torch.testing.assert_close(ours(image).tokens, theirs(image).tokens, rtol=0, atol=1e-9)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_an_image_of_equal_channels_meets_the_summed_kernels(channels):
    theirs, ours = random_vit(), random_vit(seed=1, channels=channels)
    report = load_pretrained(ours, timm(theirs))
    assert f"first conv: kernels of 3 channels summed, for {channels}" in report.adapted
    grey = torch.rand(2, 1, 16, 24, dtype=torch.float64)
    wanted, seen = theirs(grey.expand(-1, 3, -1, -1)), ours(grey.expand(-1, channels, -1, -1))
    torch.testing.assert_close(seen.tokens, wanted.tokens, rtol=0, atol=1e-9)


def test_a_grown_patch_is_answered_as_before():
    torch.manual_seed(0)
    patch, kernel = torch.randn(6, 2, 5, 5).double(), torch.randn(4, 2, 5, 5).double()
    grown = F.interpolate(patch, size=(8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(
        torch.einsum("ncyx,dcyx->nd", grown, resize_kernel(kernel, 8)),
        torch.einsum("ncyx,dcyx->nd", patch, kernel),
        rtol=0,
        atol=1e-9,
    )


def test_a_shrunk_patch_is_answered_nearly_as_before():
    """14 to 8 px, smooth patches and kernels: 0.6 % off; kernels resized as pictures, area made up for, 17 %."""
    generator = torch.Generator().manual_seed(0)
    patch, kernel = (
        F.interpolate(torch.randn(n, 1, 4, 4, generator=generator).double(), size=(14, 14), mode="bicubic")
        for n in (50, 20)
    )
    shrunk = F.interpolate(patch, size=(8, 8), mode="bilinear", antialias=True)
    wanted = torch.einsum("ncyx,dcyx->nd", patch, kernel)

    def off(resized):
        return float((torch.einsum("ncyx,dcyx->nd", shrunk, resized) - wanted).std() / wanted.std())

    assert off(resize_kernel(kernel, 8)) < 0.01
    assert off(F.interpolate(kernel, size=(8, 8), mode="bilinear", antialias=True) * (14 / 8) ** 2) > 0.1


def test_patch_side_and_positions_go_to_another_grid():
    theirs, ours = random_vit((20, 20), patch_px=5), random_vit((16, 24), seed=1, patch_px=4)
    with torch.no_grad():
        theirs.position.copy_(torch.arange(4.0).repeat_interleave(4)[:, None].expand(16, 12))  # holds its own row
    report = load_pretrained(ours, dict(timm(theirs), **{"pos_embed": theirs.position[None]}))
    assert "first conv: patches of 5 px resampled to 4 px" in report.adapted
    assert "positions: 4 × 4 patches resampled to 4 × 6" in report.adapted
    wanted = torch.arange(4.0).repeat_interleave(6)[:, None].expand(24, 12).double()
    torch.testing.assert_close(ours.position.detach(), wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("grid", [(5, 10), (4, 9), (6, 6)])  # 49 + 1 and 36 patches look like squares
def test_our_own_weights_come_back_whatever_the_grid_and_heads(grid, tmp_path):
    image_px = (4 * grid[0], 4 * grid[1])
    theirs = random_vit(image_px, heads=2, registers=2)
    ours = random_vit(image_px, seed=1, heads=2, registers=2)
    load_pretrained(ours, theirs.state_dict())
    for name, value in theirs.state_dict().items():
        if not name.startswith("head."):
            torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=0)


def test_our_own_file_says_how_many_heads_it_has(tmp_path):
    state = ViT((16, 16), width=384, patch_px=4, depth=1, heads=8).state_dict()
    told, untold = tmp_path / "told.safetensors", tmp_path / "untold.safetensors"
    save_file(state, told, {"vit.heads": "8"})
    save_file(state, untold)
    eight, six = (ViT((16, 16), width=384, patch_px=4, depth=1, heads=heads) for heads in (8, 6))
    assert not any("heads" in note for note in load_pretrained(eight, told).adapted)
    with pytest.raises(PretrainedError, match=r"vit\.heads is 6\. .* set vit\.heads 8\."):
        load_pretrained(six, told)
    assert any("does not tell how many it had; used with 6" in note for note in load_pretrained(six, untold).adapted)


def test_the_first_blocks_of_a_deeper_network_are_taken():
    theirs, ours = random_vit(depth=4), random_vit(seed=1, depth=2)
    report = load_pretrained(ours, timm(theirs))
    assert "blocks: the first 2 of 4" in report.adapted
    image = torch.randn(1, 3, 16, 24, dtype=torch.float64)
    theirs.blocks = theirs.blocks[:2]
    torch.testing.assert_close(ours(image).tokens, theirs(image).tokens, rtol=0, atol=1e-9)


def test_the_report_says_what_was_not_used_and_not_found():
    report = load_pretrained(random_vit(seed=1, registers=2), mae(random_vit()))
    assert "model.decoder_blocks.0.norm1.weight" in report.not_used and "model.mask_token" in report.not_used
    assert report.as_built == ("prefix (registers)", "head.weight", "head.bias")
    said = str(report)
    assert "from state dict (timm / DeiT / MAE / DINOv2, under 'model.')" in said
    assert "as built: prefix (registers), head (2 tensors)" in said
    assert "mask_token, decoder_pos_embed, decoder_embed (2 tensors), decoder_blocks (2 tensors)" in said
    state = timm(random_vit())
    del state["cls_token"], state["pos_embed"], state["norm.weight"], state["norm.bias"]
    ours = random_vit(seed=1)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    report = load_pretrained(ours, state)
    assert set(report.as_built) == {"prefix (CLS)", "position", "norm.weight", "norm.bias", "head.weight", "head.bias"}
    for name in ("prefix", "position", "norm.weight"):
        torch.testing.assert_close(ours.state_dict()[name], before[name])


def test_distillation_without_a_register_is_left_out_and_said():
    theirs = random_vit(registers=1)
    state = timm(theirs, others="dist_token", all_rows=True)
    ours = random_vit(seed=1)
    assert "the distillation token was left out" in str(load_pretrained(ours, state))
    torch.testing.assert_close(ours.prefix.detach(), theirs.prefix[:1].detach(), rtol=0, atol=1e-9)


def test_half_precision_files_load_into_float32():
    theirs, ours = random_vit().float(), random_vit(seed=1).float()
    load_pretrained(ours, {name: value.bfloat16() for name, value in timm(theirs).items()})
    assert ours.embed.weight.dtype == torch.float32
    torch.testing.assert_close(ours.embed.weight, theirs.embed.weight.bfloat16().float(), rtol=0, atol=0)


def changed(state, **names):
    """`state` with tensors put in (a tensor) or taken out (None), dots written as __."""
    out = dict(state)
    for name, value in names.items():
        out.pop(name.replace("__", "."), None)
        if value is not None:
            out[name.replace("__", ".")] = value
    return out


def swiglu(names, shape=(16, 12)):
    return lambda: changed(
        timm(random_vit()), **{f"blocks__0__mlp__{name}__weight": torch.ones(shape) for name in names}
    )


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda: timm(random_vit(width=24)), r"vit\.width is 12\..*set vit\.width 24\.$"),
        (lambda: timm(random_vit(width=384, heads=6)), r"vit\.width 384, vit\.heads 6\.$"),
        (lambda: google(random_vit(heads=2), heads=2), r"vit\.heads is 3\..*set vit\.heads 2\.$"),
        (lambda: timm(random_vit(mlp_ratio=4.0)), r"vit\.mlp_ratio is 2\..*set vit\.mlp_ratio 4\.$"),
        (lambda: timm(random_vit(depth=2)), r"vit\.depth is 3\..*depth 2 \(timm.*\); set vit\.depth 2\.$"),
        (lambda: timm(random_vit(registers=4)), r"vit\.registers is 0\..*set vit\.registers 4\.$"),
        (swiglu(["w12", "w3"]), "its MLPs are SwiGLU"),
        (swiglu(["weights_in", "weights_out"]), "its MLPs are SwiGLU"),
        (
            lambda: changed(
                timm(random_vit()),
                blocks__0__mlp__fc1__weight=torch.ones(64, 12),
                blocks__0__mlp__fc2__weight=torch.ones(12, 32),
            ),
            "its MLPs are SwiGLU",
        ),
        (
            lambda: changed(timm(random_vit()), blocks__1__attn__q_norm__weight=torch.ones(4)),
            r"also holds blocks\.1\.attn\.q_norm\.weight \(1 tensors\), for which this ViT has no place",
        ),
        (lambda: changed(timm(random_vit()), rope_embed__periods=torch.ones(4)), r"also holds rope_embed\.periods"),
        (lambda: changed(timm(random_vit()), norm_pre__weight=torch.ones(12)), r"also holds norm_pre\.weight"),
        (
            lambda: changed(timm(random_vit()), blocks__1__mlp__fc1__weight=None),
            r"is not whole: block 1 lacks mlp\.0\.weight",
        ),
        (
            lambda: changed(timm(random_vit()), blocks__1__norm1__bias=None),
            r"is not whole: block 1 lacks norm1\.bias",
        ),
        (
            lambda: changed(timm(random_vit()), norm__weight=torch.full((12,), torch.nan)),
            r"what stands for norm\.weight has NaN",
        ),
        (
            lambda: changed(timm(random_vit()), norm__weight=torch.ones(13)),
            r"what stands for norm\.weight is \(13,\), \(12,\) was needed",
        ),
        (
            lambda: changed(timm(random_vit()), cls_token=torch.ones(1, 1, 13)),
            r"what stands for cls is \(13,\), \(12,\) was needed",
        ),
        (
            lambda: changed(timm(random_vit(layer_scale=1.0)), blocks__0__ls1__gamma=torch.ones(5)),
            r"what stands for blocks\.0\.scale1\.gamma is \(5,\), \(12,\) was needed",
        ),
        (
            lambda: changed(hugging_face(random_vit()), encoder__layer__2__attention__attention__key__weight=None),
            r"is not whole: block 2 lacks attention\.qkv\.weight",
        ),
        (
            lambda: changed(timm(random_vit()), pos_embed=torch.ones(1, 12, 12)),
            r"its 12 positions are no square grid of patches with 1 or 0 prefix tokens, nor the 4 × 6",
        ),
        (
            lambda: changed(timm(random_vit()), patch_embed__proj__weight=torch.ones(12, 3, 2, 4, 4)),
            r"its first conv is \(12, 3, 2, 4, 4\)",
        ),
        (
            lambda: changed(timm(random_vit()), patch_embed__proj__weight=torch.ones(12, 1024, 1, 1)),
            r"its first conv is \(12, 1024, 1, 1\).*Hybrids",
        ),
        (
            lambda: {"layer1.0.conv1.weight": torch.ones(3), "fc.weight": torch.ones(3)},
            r"holds no ViT by a known naming, but 2 tensors such as layer1\.0\.conv1\.weight, fc\.weight\. "
            r"Known: timm / DeiT / MAE / DINOv2 \(has patch_embed\.proj\.weight\); Hugging Face .*; Google \.npz",
        ),
        (lambda: {}, "but no tensors"),
        (lambda: {"patch_embed.proj.weight": torch.ones(12, 3, 4, 4)}, "but no blocks of a plain ViT"),
        (lambda: {"blocks.0.attention.qkv.weight": torch.ones(36, 12)}, "but no first conv"),
        (
            lambda: {"a": timm(random_vit()), "b": timm(random_vit())},
            r"holds 2 ViTs, under 'a\.', 'b\.'; give a file with one of them",
        ),
        (
            lambda: (
                google(random_vit(), heads=3)
                | {"Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel": np.ones(3, dtype=np.float32)}
            ),
            r"blocks\.0\.mlp\.0\.weight is \(3,\), which is not the 'i o' of Google's",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(write, message):
    ours = random_vit(seed=1)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    with pytest.raises(PretrainedError, match=message):
        load_pretrained(ours, write())
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


class Bomb:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", [".pth", ".bin", ".npz", ".safetensors", ".pkl"])
def test_nothing_is_ever_unpickled(suffix, tmp_path):
    sprung, file = tmp_path / "sprung", tmp_path / f"vit{suffix}"
    state = timm(random_vit()) | {"more": Bomb(sprung)}
    if suffix == ".npz":
        np.savez(file, **google(random_vit(), heads=3), more=np.array([Bomb(sprung)], dtype=object))
    elif suffix == ".pth":
        torch.save(state, file)
    elif suffix == ".bin":
        torch.save(state, file, _use_new_zipfile_serialization=False)
    else:
        file.write_bytes(pickle.dumps(Bomb(sprung)))
    with pytest.raises(PretrainedError, match=f"vit{suffix}"):
        load_pretrained(random_vit(), file)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Bomb(sprung)))  # and it does go off where it is unpickled
    assert sprung.exists()


def test_python_objects_beside_tensors_are_named(tmp_path):
    torch.save({"model": timm(random_vit()), "args": argparse.Namespace(lr=1e-3)}, tmp_path / "vit.pth")
    with pytest.raises(PretrainedError, match=r"vit\.pth: holds argparse\.Namespace, a Python object, beside tensors"):
        load_pretrained(random_vit(), tmp_path / "vit.pth")


def test_files_that_are_no_weights_are_refused(tmp_path):
    vit = random_vit()
    with pytest.raises(PretrainedError, match=r"gone\.pth: no such file of weights"):
        load_pretrained(vit, tmp_path / "gone.pth")
    for name in ("a.safetensors", "a.npz", "a.pth"):
        (tmp_path / name).write_bytes(b"\x00\x01 no weights at all")
        with pytest.raises(PretrainedError, match=rf"{name}: .*(not a whole|pickled Python|cannot be read as weights)"):
            load_pretrained(vit, tmp_path / name)
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.ones(3))  # one array, misnamed
    with pytest.raises(PretrainedError, match=r"array\.npz: is not a whole \.npz file"):
        load_pretrained(vit, tmp_path / "array.npz")
    with pytest.raises(PretrainedError, match=r"is a folder; give one of a\.npz, a\.pth, a\.safetensors, array"):
        load_pretrained(vit, tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(PretrainedError, match="is the index of a checkpoint in several files"):
        load_pretrained(vit, tmp_path / "model.safetensors.index.json")
    torch.save([torch.ones(3)], tmp_path / "list.pth")
    with pytest.raises(PretrainedError, match="holds list; a mapping of names to tensors was needed"):
        load_pretrained(vit, tmp_path / "list.pth")
    for kind in (
        lambda f: save_file(timm(vit), f),
        lambda f: np.savez(f, **google(vit, 3)),
        lambda f: torch.save(timm(vit), f),
    ):
        for suffix in (".safetensors", ".npz", ".pth"):
            file = tmp_path / f"cut{suffix}"
            kind(file)
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
            with pytest.raises(PretrainedError, match=rf"cut\{suffix}: "):
                load_pretrained(vit, file)


def test_real_sizes_name_the_settings_that_fit():
    """A small user's ViT meets DINOv2 ViT-S/14: one message has all that must change."""
    names = {"patch_embed.proj.weight": torch.zeros(384, 3, 14, 14)}
    names |= {"blocks.0.mlp.fc1.weight": torch.zeros(1536, 384), "blocks.11.mlp.fc1.weight": torch.zeros(1536, 384)}
    with pytest.raises(PretrainedError, match=r"set vit\.width 384, vit\.heads 6, vit\.mlp_ratio 4\.$"):
        load_pretrained(ViT((96, 96), patch_px=8, width=96, depth=3, heads=4, mlp_ratio=2.0), names)
