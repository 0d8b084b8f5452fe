"""Our ViT's weights written out in the namings and shapes of public checkpoints, by hand, for tests.

Names and shapes are those of timm, facebookresearch/deit, mae and dinov2, transformers 5.24 (on disk and in memory),
google-research/vision_transformer and big_vision. Position rows that a family has for prefix tokens are drawn at
random and taken off those tokens, as the family adds them again.
"""

import torch

from genomic_vit import ViT


def random_vit(image_px=(16, 24), *, seed=0, targets=3, depth=3, **options) -> ViT:
    """A ViT whose every parameter is random, so that nothing that is mixed up stays unseen."""
    options = {"patch_px": 4, "channels": 3, "width": 12, "heads": 3, "mlp_ratio": 2.0} | options
    torch.manual_seed(seed)
    vit = ViT(image_px, targets=targets, depth=depth, **options)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4 + (parameter.mean() > 0.5))
    return vit.double().eval()  # so that taking position rows off and adding them again costs no digits


def embedding(vit, *, cls_row=True, all_rows=False):
    """(cls (1 1 d), others (1 k d), positions (1 rows d)) with random rows for CLS, or for all prefix tokens."""
    prefix, position = vit.prefix.detach().clone(), vit.position.detach()
    rows = torch.randn(len(prefix) if all_rows else 1 if cls_row else 0, prefix.shape[1])
    prefix[: len(rows)] -= rows
    return prefix[None, :1], prefix[None, 1:], torch.cat([rows, position])[None]


def timm(vit, *, others="reg_token", chunk=None, scale="ls{}.gamma", **rows):
    """timm, DeiT, MAE, DINOv2; `others` is what the prefix tokens after CLS are called."""
    cls, rest, positions = embedding(vit, **rows)
    state = {"cls_token": cls, "pos_embed": positions}
    if rest.shape[1]:
        state[others] = rest
    state |= {"patch_embed.proj.weight": vit.embed.weight, "patch_embed.proj.bias": vit.embed.bias}
    for i, block in enumerate(vit.blocks):
        at = f"blocks.{i}." if chunk is None else f"blocks.{i // chunk}.{i}."
        state |= {
            at + "norm1.weight": block.norm1.weight,
            at + "norm1.bias": block.norm1.bias,
            at + "attn.qkv.weight": block.attention.qkv.weight,
            at + "attn.qkv.bias": block.attention.qkv.bias,
            at + "attn.proj.weight": block.attention.project.weight,
            at + "attn.proj.bias": block.attention.project.bias,
            at + "norm2.weight": block.norm2.weight,
            at + "norm2.bias": block.norm2.bias,
            at + "mlp.fc1.weight": block.mlp[0].weight,
            at + "mlp.fc1.bias": block.mlp[0].bias,
            at + "mlp.fc2.weight": block.mlp[3].weight,
            at + "mlp.fc2.bias": block.mlp[3].bias,
        }
        if hasattr(block.scale1, "gamma"):
            state |= {at + scale.format(1): block.scale1.gamma, at + scale.format(2): block.scale2.gamma}
    state |= {"norm.weight": vit.norm.weight, "norm.bias": vit.norm.bias}
    state |= {"head.weight": torch.randn(1000, len(vit.norm.weight)), "head.bias": torch.zeros(1000)}
    return whole(state)


def dinov2(vit, chunk=None):
    """dinov2_vits14_reg4_pretrain.pth: CLS alone has a position row, registers stand after CLS."""
    state = timm(vit, others="register_tokens", chunk=chunk)
    state["mask_token"] = torch.zeros(1, len(vit.norm.weight))
    return {name: value for name, value in state.items() if not name.startswith("head.")}


def mae(vit):
    """mae_pretrain_vit_base_full.pth: the encoder, and a decoder of its own."""
    state = timm(vit)
    width = 8
    state |= {"mask_token": torch.zeros(1, 1, width), "decoder_pos_embed": torch.randn(1, 25, width)}
    state |= {
        "decoder_embed.weight": torch.randn(width, len(vit.norm.weight)),
        "decoder_embed.bias": torch.zeros(width),
    }
    state |= {"decoder_blocks.0.norm1.weight": torch.ones(width), "decoder_blocks.0.attn.qkv.bias": torch.ones(24)}
    state |= {"decoder_norm.weight": torch.ones(width), "decoder_pred.weight": torch.randn(768, width)}
    return {"model": state}


def hugging_face(vit, *, dino=False, in_memory=False, at="", others="embeddings.register_tokens", **rows):
    """transformers' ViTModel (dino=False) or Dinov2Model / Dinov2WithRegistersModel, under the prefix `at`."""
    cls, rest, positions = embedding(vit, **rows)
    state = {"embeddings.cls_token": cls, "embeddings.position_embeddings": positions}
    if rest.shape[1]:
        state[others] = rest
    if dino:
        state["embeddings.mask_token"] = torch.zeros(1, len(vit.norm.weight))
    state["embeddings.patch_embeddings.projection.weight"] = vit.embed.weight
    state["embeddings.patch_embeddings.projection.bias"] = vit.embed.bias
    names = {"out": "attention.output.dense", "fc1": "intermediate.dense", "fc2": "output.dense"}
    names |= {"norm1": "layernorm_before", "norm2": "layernorm_after"}
    names |= {part: f"attention.attention.{part}" for part in ("query", "key", "value")}
    if dino:
        names |= {name: name for name in ("norm1", "norm2")} | {"fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    if in_memory:
        names |= {part: f"attention.{part[0]}_proj" for part in ("query", "key", "value")}
        names |= {"out": "attention.o_proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    for i, block in enumerate(vit.blocks):
        where = f"layers.{i}." if in_memory and not dino else f"encoder.layer.{i}."
        modules = {"norm1": block.norm1, "norm2": block.norm2, "out": block.attention.project}
        modules |= {"fc1": block.mlp[0], "fc2": block.mlp[3]}
        for name, module in modules.items():
            state[f"{where}{names[name]}.weight"] = module.weight
            state[f"{where}{names[name]}.bias"] = module.bias
        qkv = block.attention.qkv
        for part, weight, bias in zip(("query", "key", "value"), qkv.weight.chunk(3), qkv.bias.chunk(3), strict=True):
            state[f"{where}{names[part]}.weight"], state[f"{where}{names[part]}.bias"] = weight, bias
        if dino:
            state[f"{where}layer_scale1.lambda1"] = block.scale1.gamma
            state[f"{where}layer_scale2.lambda1"] = block.scale2.gamma
    state |= {"layernorm.weight": vit.norm.weight, "layernorm.bias": vit.norm.bias}
    state = {at + name: value for name, value in state.items()}
    if at:
        state |= {"classifier.weight": torch.randn(5, len(vit.norm.weight)), "classifier.bias": torch.zeros(5)}
    else:
        state |= {"pooler.dense.weight": torch.randn(4, 4), "pooler.dense.bias": torch.zeros(4)}
    return whole(state)


def google(vit, heads, *, big_vision=False):
    """ViT-B_16.npz of google-research/vision_transformer, or big_vision's own: flax kernels, numpy arrays."""
    cls, _, positions = embedding(vit, cls_row=not big_vision)
    width = len(vit.norm.weight)
    attention, mlp, norm2 = ("MultiHeadDotProductAttention_1", "MlpBlock_3", "LayerNorm_2")
    at, place = "", "Transformer/posembed_input/pos_embedding"
    if big_vision:
        attention, mlp, norm2 = ("MultiHeadDotProductAttention_0", "MlpBlock_0", "LayerNorm_1")
        at, place = "params/", "pos_embedding"
    state = {"cls": cls, place: positions, "embedding/kernel": vit.embed.weight.permute(2, 3, 1, 0)}
    state |= {"embedding/bias": vit.embed.bias}
    for i, block in enumerate(vit.blocks):
        where = f"Transformer/encoderblock_{i}/"
        for name, norm in (("LayerNorm_0", block.norm1), (norm2, block.norm2)):
            state |= {f"{where}{name}/scale": norm.weight, f"{where}{name}/bias": norm.bias}
        qkv = block.attention.qkv
        for part, weight, bias in zip(("query", "key", "value"), qkv.weight.chunk(3), qkv.bias.chunk(3), strict=True):
            state[f"{where}{attention}/{part}/kernel"] = weight.T.reshape(width, heads, width // heads)
            state[f"{where}{attention}/{part}/bias"] = bias.reshape(heads, width // heads)
        project = block.attention.project
        state[f"{where}{attention}/out/kernel"] = project.weight.T.reshape(heads, width // heads, width)
        state[f"{where}{attention}/out/bias"] = project.bias
        for dense, linear in (("Dense_0", block.mlp[0]), ("Dense_1", block.mlp[3])):
            state |= {f"{where}{mlp}/{dense}/kernel": linear.weight.T, f"{where}{mlp}/{dense}/bias": linear.bias}
    state |= {"Transformer/encoder_norm/scale": vit.norm.weight, "Transformer/encoder_norm/bias": vit.norm.bias}
    state |= {"head/kernel": torch.randn(width, 10), "head/bias": torch.zeros(10)}
    state |= {"pre_logits/kernel": torch.randn(width, width)} if not big_vision else {}
    return {at + name: value.numpy() for name, value in whole(state).items()}


def whole(state):
    """Copies that share nothing, as a file holds them."""
    return {name: value.detach().clone().contiguous() for name, value in state.items()}
