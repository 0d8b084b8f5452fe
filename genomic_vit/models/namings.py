"""The names that public ViTs give their weights. models/checkpoint.py says what they are turned into."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Naming:
    """How one family of checkpoints spells its tensors.

    Args:
        name: of the family, as reports say it.
        anchor: a tensor that every such checkpoint holds; what stands before it is the prefix of all its names.
        block: pattern of a name that belongs to a block.
        renames: (pattern of a whole name, our name), the first that fits.
    """

    name: str
    anchor: str
    block: str
    renames: tuple[tuple[str, str], ...]


WB = "(weight|bias)"
TIMM_BLOCK = r"blocks\.(?:\d+\.)?(\d+)\."  # DINOv2 may chunk its blocks: blocks.CHUNK.N, N counted over all chunks
HF_BLOCK = r"(?:encoder\.)?layers?\.(\d+)\."
GOOGLE_BLOCK = r"Transformer/encoderblock_(\d+)/"
GOOGLE_HEADS = rf"{GOOGLE_BLOCK}MultiHeadDotProductAttention_[01]/"
OURS_BLOCK = r"blocks\.(\d+)\."

TIMM = Naming(
    "timm / DeiT / MAE / DINOv2",
    "patch_embed.proj.weight",
    TIMM_BLOCK,
    (
        (rf"patch_embed\.proj\.{WB}", r"embed.\1"),
        (r"cls_token", "cls"),
        (r"dist_token", "distilled"),
        (r"register_tokens|reg_token", "registers"),
        (r"pos_embed", "positions"),
        (rf"norm\.{WB}", r"norm.\1"),
        (rf"{TIMM_BLOCK}norm([12])\.{WB}", r"blocks.\1.norm\2.\3"),
        (rf"{TIMM_BLOCK}attn\.qkv\.{WB}", r"blocks.\1.attention.qkv.\2"),
        (rf"{TIMM_BLOCK}attn\.proj\.{WB}", r"blocks.\1.attention.project.\2"),
        (rf"{TIMM_BLOCK}mlp\.fc1\.{WB}", r"blocks.\1.mlp.0.\2"),
        (rf"{TIMM_BLOCK}mlp\.fc2\.{WB}", r"blocks.\1.mlp.3.\2"),
        (rf"{TIMM_BLOCK}ls([12])\.gamma", r"blocks.\1.scale\2.gamma"),
        (rf"{TIMM_BLOCK}gamma_([12])", r"blocks.\1.scale\2.gamma"),  # DeiT III
    ),
)
HUGGING_FACE = Naming(
    "Hugging Face ViT / DeiT / ViTMAE / Dinov2",
    "embeddings.patch_embeddings.projection.weight",
    HF_BLOCK,
    (
        (rf"embeddings\.patch_embeddings\.projection\.{WB}", r"embed.\1"),
        (r"embeddings\.cls_token", "cls"),
        (r"embeddings\.distillation_token", "distilled"),
        (r"embeddings\.register_tokens", "registers"),
        (r"embeddings\.position_embeddings", "positions"),
        (rf"layernorm\.{WB}", r"norm.\1"),
        (rf"{HF_BLOCK}(?:layernorm_before|norm1)\.{WB}", r"blocks.\1.norm1.\2"),
        (rf"{HF_BLOCK}(?:layernorm_after|norm2)\.{WB}", r"blocks.\1.norm2.\2"),
        (rf"{HF_BLOCK}attention\.attention\.(q|k|v)(?:uery|ey|alue)\.{WB}", r"blocks.\1.attention.\2.\3"),
        (rf"{HF_BLOCK}attention\.(q|k|v)_proj\.{WB}", r"blocks.\1.attention.\2.\3"),  # in memory, transformers ≥ 5
        (rf"{HF_BLOCK}attention\.(?:output\.dense|o_proj)\.{WB}", r"blocks.\1.attention.project.\2"),
        (rf"{HF_BLOCK}(?:intermediate\.dense|mlp\.fc1)\.{WB}", r"blocks.\1.mlp.0.\2"),
        (rf"{HF_BLOCK}(?:output\.dense|mlp\.fc2)\.{WB}", r"blocks.\1.mlp.3.\2"),
        (rf"{HF_BLOCK}layer_scale([12])\.lambda1", r"blocks.\1.scale\2.gamma"),
    ),
)
GOOGLE = Naming(  # `/kernel` and `/scale` are read as `/weight`; _1, MlpBlock_0 and …Attention_0 are big_vision's
    "Google .npz",
    "embedding/kernel",
    GOOGLE_BLOCK,
    (
        (rf"embedding/{WB}", r"embed.\1"),
        (r"cls", "cls"),
        (r"(?:Transformer/posembed_input/)?pos_embedding", "positions"),
        (rf"Transformer/encoder_norm/{WB}", r"norm.\1"),
        (rf"{GOOGLE_BLOCK}LayerNorm_0/{WB}", r"blocks.\1.norm1.\2"),
        (rf"{GOOGLE_BLOCK}LayerNorm_[12]/{WB}", r"blocks.\1.norm2.\2"),
        (rf"{GOOGLE_HEADS}(q|k|v)(?:uery|ey|alue)/{WB}", r"blocks.\1.attention.\2.\3"),
        (rf"{GOOGLE_HEADS}out/{WB}", r"blocks.\1.attention.project.\2"),
        (rf"{GOOGLE_BLOCK}MlpBlock_[03]/Dense_0/{WB}", r"blocks.\1.mlp.0.\2"),
        (rf"{GOOGLE_BLOCK}MlpBlock_[03]/Dense_1/{WB}", r"blocks.\1.mlp.3.\2"),
    ),
)
OURS = Naming(
    "genomic_vit",
    "blocks.0.attention.qkv.weight",
    OURS_BLOCK,
    (
        (rf"embed\.{WB}", r"embed.\1"),
        (r"prefix", "prefix"),
        (r"position", "positions"),
        (rf"norm\.{WB}", r"norm.\1"),
        (rf"{OURS_BLOCK}((?:norm[12]|attention\.qkv|attention\.project|mlp\.[03])\.{WB})", r"blocks.\1.\2"),
        (rf"{OURS_BLOCK}scale([12])\.gamma", r"blocks.\1.scale\2.gamma"),
    ),
)
NAMINGS = (TIMM, HUGGING_FACE, GOOGLE, OURS)
