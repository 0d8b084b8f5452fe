"""What a run is: frozen dataclasses, valid when they exist. No heavy imports: command lines are parsed from these."""

from __future__ import annotations

import typing
from dataclasses import dataclass, field
from typing import Literal

PHANTOM_TARGET = "mutant"  # the label column of the embedded phantom cohort


class UserError(ValueError):
    """Something the user gave cannot be used; the message says where, what was found, what was needed, what to do."""


class ConfigError(UserError):
    """A setting is unknown or impossible; the message names it and what to write instead."""


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


@dataclass(frozen=True)
class ScanConfig:
    """How scans are opened; docs/scans.md says how a series is chosen.

    Args:
        on_gap: missing or uneven slices of a DICOM series: error refuses it and names the gap, resample interpolates
            between the neighbours.
    """

    on_gap: Literal["error", "resample"] = "error"

    def __post_init__(self) -> None:
        _require(self.on_gap in ("error", "resample"), f"scan.on_gap is {self.on_gap!r}; it must be error or resample")


@dataclass(frozen=True)
class SlabConfig:
    """How slices are cut around a lesion.

    Args:
        tile_px: side of one tile in the grid, pixels; a multiple of the ViT's patch_px.
        crop_mm: side of the square in-plane crop, mm. A larger lesion widens its own crop.
        margin_mm: least distance between lesion and crop border, mm.
        slice_step_mm: distance between slices, mm; null takes the scan's own consecutive slices.
        context_slices: slices kept on each side of the lesion, 0 to 8; a stack of nine then always touches it.
    """

    tile_px: int = 32
    crop_mm: float = 40.0
    margin_mm: float = 4.0
    slice_step_mm: float | None = None
    context_slices: int = 2

    def __post_init__(self) -> None:
        _require(self.tile_px >= 8, f"slab.tile_px is {self.tile_px}; it must be at least 8")
        _require(self.crop_mm > 0, f"slab.crop_mm is {self.crop_mm}; it must be positive")
        _require(self.margin_mm >= 0, f"slab.margin_mm is {self.margin_mm}; it must not be negative")
        _require(
            self.slice_step_mm is None or self.slice_step_mm > 0,
            f"slab.slice_step_mm is {self.slice_step_mm}; give millimetres above 0, or null for the scan's own slices",
        )
        _require(0 <= self.context_slices <= 8, f"slab.context_slices is {self.context_slices}; it must be 0 to 8")


@dataclass(frozen=True)
class ViewConfig:
    """How a slab becomes grids.

    Args:
        window_hu: HU range mapped to [0, 1], clipped outside (lung parenchyma: -1350 150, mediastinum: -115 235).
        eval_stride: slices between the stacks of nine that evaluation averages, 1 to 9.
        eval_flips: evaluation also averages the eight flips and quarter turns of each stack, heat included.
    """

    window_hu: tuple[float, float] = (-1350.0, 150.0)
    eval_stride: int = 2
    eval_flips: bool = True

    def __post_init__(self) -> None:
        low, high = self.window_hu
        _require(low < high, f"view.window_hu is {self.window_hu}; give the lower HU first")
        _require(1 <= self.eval_stride <= 9, f"view.eval_stride is {self.eval_stride}; 1 to 9 lets no slice go unseen")


@dataclass(frozen=True)
class AugmentConfig:
    """In-plane augmentation of training stacks, the same for all nine slices. Zero turns one off.

    Args:
        flips: mirror and quarter-turn at random.
        rotate_deg: largest small rotation, degrees.
        scale: largest relative change of size.
        shift: largest shift, as a share of the tile.
        noise_hu: largest standard deviation of added Gaussian noise, HU.
        jitter_hu: largest offset added to all voxels, HU.
    """

    flips: bool = True
    rotate_deg: float = 15.0
    scale: float = 0.1
    shift: float = 0.06
    noise_hu: float = 20.0
    jitter_hu: float = 20.0

    def __post_init__(self) -> None:
        for name in ("rotate_deg", "scale", "shift", "noise_hu", "jitter_hu"):
            _require(getattr(self, name) >= 0, f"augment.{name} is {getattr(self, name)}; it must not be negative")
        _require(self.scale < 1, f"augment.scale is {self.scale}; it must be below 1")


@dataclass(frozen=True)
class ViTConfig:
    """The Vision Transformer.

    Args:
        patch_px: side of a patch, pixels; divides slab.tile_px.
        width: token width d.
        depth: number of blocks l.
        heads: attention heads h; divides width.
        mlp_ratio: hidden width of a block's MLP over d.
        registers: register tokens beside CLS.
        dropout: after attention projection and in the MLP.
        attention_dropout: of attention, in the value path only; the rollout sees the undropped attention.
        layer_scale: first value of LayerScale's factors (DINOv2 began at 1e-5); null has no LayerScale.
    """

    patch_px: int = 8
    width: int = 96
    depth: int = 3
    heads: int = 4
    mlp_ratio: float = 2.0
    registers: int = 0
    dropout: float = 0.1
    attention_dropout: float = 0.0
    layer_scale: float | None = None

    def __post_init__(self) -> None:
        for name in ("patch_px", "width", "depth", "heads"):
            _require(getattr(self, name) >= 1, f"vit.{name} is {getattr(self, name)}; it must be at least 1")
        _require(self.width % self.heads == 0, f"vit.width {self.width} must be a multiple of vit.heads {self.heads}")
        _require(self.mlp_ratio > 0, f"vit.mlp_ratio is {self.mlp_ratio}; it must be positive")
        _require(self.registers >= 0, f"vit.registers is {self.registers}; it must not be negative")
        for name in ("dropout", "attention_dropout"):
            _require(0 <= getattr(self, name) < 1, f"vit.{name} is {getattr(self, name)}; it must be in [0, 1)")
        _require(
            self.layer_scale is None or self.layer_scale > 0,
            f"vit.layer_scale is {self.layer_scale}; give a number above 0 such as 1e-5, or null for none",
        )


@dataclass(frozen=True)
class RolloutConfig:
    """The attention rollout.

    Args:
        residual: the identity's share at each layer, in (0, 1); 0.5 is the classical choice.
        learn_residual: learn it, one a layer, beginning with `residual`, then in (0.0001, 0.9999).
        fusion: of the heads.
        discard: share of the smallest attention dropped, for each image and layer; needs the dense way.
        start_layer: first layer that counts, from 0.
        attention: dense makes the n × n matrices, streamed never does; auto streams where it can, and on a CPU keeps
            up to 2 vit.width rows of each layer's mean over heads, which makes it quicker for 1 to 11 % more memory.
    """

    residual: float = 0.5
    learn_residual: bool = False
    fusion: Literal["mean", "max", "min"] = "mean"
    discard: float = 0.0
    start_layer: int = 0
    attention: Literal["auto", "dense", "streamed"] = "auto"

    def __post_init__(self) -> None:
        _require(0 < self.residual < 1, f"rollout.residual is {self.residual}; it must be between 0 and 1")
        _require(
            not self.learn_residual or 1e-4 < self.residual < 1 - 1e-4,
            f"rollout.residual is {self.residual} with rollout.learn_residual; one that is learnt must be between "
            "0.0001 and 0.9999",
        )
        _require(0 <= self.discard < 1, f"rollout.discard is {self.discard}; give a share of at least 0, below 1")
        _require(
            not (self.discard and self.attention == "streamed"),
            f"rollout.discard is {self.discard} with rollout.attention streamed; finding the smallest entries needs "
            "the whole matrix: use dense or auto",
        )


@dataclass(frozen=True)
class CNNConfig:
    """The CNN that classifies [grid, heat].

    Args:
        name: "small" suits CPUs; the others are MONAI's, trained from scratch.
        dropout: before the last layer of "small".
    """

    name: Literal["small", "resnet18", "resnet50", "densenet121", "efficientnet-b0"] = "small"
    dropout: float = 0.2

    def __post_init__(self) -> None:
        _require(0 <= self.dropout < 1, f"cnn.dropout is {self.dropout}; it must be in [0, 1)")


@dataclass(frozen=True)
class ModelConfig:
    """What the network begins with.

    Args:
        pretrained: file of a public ViT's weights (timm, DeiT, MAE, DINOv2, Hugging Face, Google's .npz) or another
            run's model.safetensors, put into the ViT when a run starts; vit.width, heads and mlp_ratio must be its own.
    """

    pretrained: str | None = None


@dataclass(frozen=True)
class TrainingConfig:
    """How the parts learn.

    Args:
        epochs: most epochs of one stage.
        patience: epochs without a better validation loss before a stage stops early, its learning rate still high;
            null lets it anneal. The epoch with the best validation loss is kept either way.
        batch_size: stacks in a batch, those of all processes together.
        accumulate: batches whose mean gradient makes one step; the last step of an epoch may have fewer.
        clip: largest norm of the gradient, a longer one is shortened to it; null never does.
        precision: 32, or the arithmetic of the products in training (bf16-mixed; on GPUs also 16-mixed); weights,
            losses, rollout, and all of the final test, evaluate and predict are 32-bit. 64 is for comparing runs.
        compile: let torch.compile fuse the training step; minutes at the start of each stage.
        deterministic: on a GPU take only kernels that add in a fixed order, so that a resumed run can end bit for bit;
            slower, and what has no such kernel stops the run. A CPU adds in a fixed order as it is.
        learning_rate: peak of the one-cycle cosine schedule (AdamW).
        average: decay of the moving average of weights, which is what is judged and kept; 0 takes the last weights.
        weight_decay: AdamW's.
        vit_weight: lambda in `cnn loss + lambda vit loss + mu lesion loss` (joint).
        lesion_weight: mu of the same; it rewards heat that lies on the lesion.
        balance: weigh positives by (negatives / positives) of the training part.
    """

    epochs: int = 40
    patience: int | None = None
    batch_size: int = 16
    accumulate: int = 1
    clip: float | None = 1.0
    precision: str | int = "32"
    compile: bool = False
    deterministic: bool = False
    learning_rate: float = 2e-3
    average: float = 0.99
    weight_decay: float = 0.05
    vit_weight: float = 0.5
    lesion_weight: float = 0.0
    balance: bool = True

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch_size", "accumulate"):
            value = getattr(self, name)
            _require(value is None or value >= 1, f"training.{name} is {value}; it must be at least 1")
        _require(
            self.clip is None or self.clip > 0, f"training.clip is {self.clip}; give a norm above 0, or null for none"
        )
        object.__setattr__(self, "precision", str(self.precision))  # YAML reads 32 as a number
        _require(
            self.precision in ("32", "bf16-mixed", "16-mixed", "64"),
            f"training.precision is {self.precision!r}; it must be 32, bf16-mixed, 16-mixed or 64",
        )
        _require(
            0 < self.learning_rate < float("inf"),
            f"training.learning_rate is {self.learning_rate}; it must be positive, and finite",
        )
        _require(0 <= self.average < 1, f"training.average is {self.average}; it must be in [0, 1)")
        for name in ("weight_decay", "vit_weight", "lesion_weight"):
            _require(getattr(self, name) >= 0, f"training.{name} is {getattr(self, name)}; it must not be negative")


@dataclass(frozen=True)
class LesionConfig:
    """How the lesion of a case is read; docs/lesions.md says what each source means.

    Args:
        frame: frame of points and boxes given in mm, lps (DICOM, ITK) or ras (NIfTI, 3D Slicer's display).
        roi: ROI of an RTSTRUCT, segment of a SEG or label of a mask: its number, its name or a pattern (GTV*).
        point_mm: diameter of the ball drawn around a lesion given as one point, mm.
        field: lesion reads the manifest's lesion column; lung takes the whole lungs, segmented, and needs no lesion.
        lesions: of several lesions in one source, take the largest, or each as a case of its own.
    """

    frame: Literal["lps", "ras"] = "lps"
    roi: str | None = None
    point_mm: float = 20.0
    field: Literal["lesion", "lung"] = "lesion"
    lesions: Literal["largest", "each"] = "largest"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("frame", ("lps", "ras")),
            ("field", ("lesion", "lung")),
            ("lesions", ("largest", "each")),
        ):
            value = getattr(self, name)
            _require(value in allowed, f"lesion.{name} is {value!r}; it must be {' or '.join(allowed)}")
        _require(0 < self.point_mm <= 200, f"lesion.point_mm is {self.point_mm}; give a diameter of 0 to 200 mm")
        _require(self.roi is None or bool(self.roi.strip()), "lesion.roi is empty; give a name or number, or leave it")


@dataclass(frozen=True)
class SplitConfig:
    """Which patients are held out.

    Args:
        folds: patient-level stratified folds.
        fold: the fold held out as the test part, from 0.
        validation: share of the other patients kept for early stopping.
    """

    folds: int = 5
    fold: int = 0
    validation: float = 0.2

    def __post_init__(self) -> None:
        _require(self.folds >= 2, f"split.folds is {self.folds}; at least 2 are needed")
        _require(0 <= self.fold < self.folds, f"split.fold is {self.fold}; folds are counted 0 to {self.folds - 1}")
        _require(0 < self.validation < 0.5, f"split.validation is {self.validation}; give a share above 0, below 0.5")


@dataclass(frozen=True)
class PhantomConfig:
    """The synthetic cohort used where no data is given.

    Args:
        patients: how many; half of them mutant.
        seed: of everything random in it.
        signal: 1.0 plants the full phenotype, 0 none.
    """

    patients: int = 120
    seed: int = 0
    signal: float = 1.0

    def __post_init__(self) -> None:
        _require(self.patients >= 2, f"phantom.patients is {self.patients}; at least 2 are needed")
        _require(0 <= self.signal <= 1, f"phantom.signal is {self.signal}; it must be in [0, 1]")


@dataclass(frozen=True)
class TargetRule:
    """How a column of a label table becomes a target; case and surrounding white space are forgiven everywhere.

    Args:
        column: header of the column.
        positive: cell text, or a list of texts, that means positive.
        negative: the same for negative; anything else is missing, and counted aloud.
    """

    column: str
    positive: tuple[str | int, ...] | str | int
    negative: tuple[str | int, ...] | str | int

    def __post_init__(self) -> None:
        for name in ("positive", "negative"):
            given = getattr(self, name)
            texts = tuple(given) if isinstance(given, list | tuple) else (given,)
            _require(
                not any(isinstance(text, bool) for text in texts),
                f"labels.targets: {self.column!r}: YAML reads {name} as true or false; put the text in quotes",
            )
            object.__setattr__(self, name, tuple(str(text) for text in texts))
            _require(
                bool(getattr(self, name)), f"labels.targets: {self.column!r} has no {name} text; give at least one"
            )
        both = {plain_text(text) for text in self.positive} & {plain_text(text) for text in self.negative}
        _require(not both, f"labels.targets: {self.column!r}: {sorted(both)} means positive and negative; choose one")


@dataclass(frozen=True)
class CovariateRule:
    """What else is known of a patient before the answer.

    Args:
        column: header of the column.
        kind: number, where any other text is missing; or category, where Unknown, Not Collected and the like are.
    """

    column: str
    kind: Literal["number", "category"] = "category"

    def __post_init__(self) -> None:
        kinds = typing.get_args(typing.get_type_hints(type(self))["kind"])
        _require(
            self.kind in kinds,
            f"labels.covariates: {self.column!r} is of kind {self.kind!r}; it must be {' or '.join(kinds)}",
        )


@dataclass(frozen=True)
class LabelsConfig:
    """How a clinical table becomes targets and covariates.

    Args:
        table: CSV or XLSX with one row a patient; null takes the manifest's own columns.
        sheet: of an XLSX; null takes the first.
        key: column of the table that holds the manifest's patient; null takes Case ID, Patient ID or the like.
        preset: a collection whose targets and covariates are known; those given below come on top.
        targets: name to column, positive and negative; --target picks among them.
        covariates: name to column and kind (number or category).
        min_cases: fewest positive, and fewest negative, patients a target needs to be learned.
        allow_outcome_columns: take columns known only after treatment (recurrence, survival, death) as covariates.
    """

    table: str | None = None
    sheet: str | None = None
    key: str | None = None
    preset: Literal["nsclc-radiogenomics", "lung1", "lidc", "msd-lung"] | None = None
    targets: dict[str, TargetRule] = field(default_factory=dict)
    covariates: dict[str, CovariateRule] = field(default_factory=dict)
    min_cases: int = 10
    allow_outcome_columns: bool = False

    def __post_init__(self) -> None:
        _require(self.min_cases >= 1, f"labels.min_cases is {self.min_cases}; it must be at least 1")
        names = [*self.targets, *self.covariates]
        taken = [name for name in names if names.count(name) > 1 or name in ("case", "patient", "scan", "lesion")]
        _require(not taken, f"labels: {sorted(set(taken))} names two things, or a column of the manifest; rename it")


@dataclass(frozen=True)
class RunConfig:
    """One training run, whole.

    Args:
        mode: joint trains ViT and CNN together through the rollout; staged fits the ViT first, then freezes it.
        data: manifest CSV (case, patient, scan, lesion, targets); null takes the embedded phantom cohort.
        target: target column, or several with commas; null takes the phantom's.
        positive: text in the target columns that means positive; null reads 1 and 0.
        negative: text in the target columns that means negative; anything else is missing.
        seed: of split, initial weights, batches and augmentation.
        device: auto takes a GPU where there is one.
    """

    mode: Literal["joint", "staged"] = "joint"
    data: str | None = None
    target: str | None = None
    positive: str | None = None
    negative: str | None = None
    seed: int = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    scan: ScanConfig = field(default_factory=ScanConfig)
    lesion: LesionConfig = field(default_factory=LesionConfig)
    slab: SlabConfig = field(default_factory=SlabConfig)
    view: ViewConfig = field(default_factory=ViewConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    vit: ViTConfig = field(default_factory=ViTConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    cnn: CNNConfig = field(default_factory=CNNConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    phantom: PhantomConfig = field(default_factory=PhantomConfig)
    labels: LabelsConfig = field(default_factory=LabelsConfig)

    def __post_init__(self) -> None:
        tile, patch = self.slab.tile_px, self.vit.patch_px
        _require(
            0 <= self.rollout.start_layer < self.vit.depth,
            f"rollout.start_layer is {self.rollout.start_layer} with vit.depth {self.vit.depth}; "
            f"give 0 to {self.vit.depth - 1}",
        )
        _require(tile % patch == 0, f"slab.tile_px {tile} must be a multiple of vit.patch_px {patch}")
        _require(
            self.augment.flips or not self.view.eval_flips,
            "view.eval_flips is on and augment.flips off: evaluation would turn stacks as training never did; "
            "switch both on or both off",
        )
        _require(
            (self.positive is None) == (self.negative is None),
            f"positive is {self.positive!r} and negative is {self.negative!r}; give both, or neither for 1 and 0",
        )
        _require(
            self.data is None or self.target is not None, "data is given without target; name the target column(s)"
        )

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the target columns, in the order of the logits."""
        return tuple(name.strip() for name in (self.target or PHANTOM_TARGET).split(",") if name.strip())


def plain_text(text: str) -> str:
    """A header or cell as it is compared: white space trimmed and single, case folded, underscores as blanks."""
    return " ".join(text.replace("_", " ").split()).casefold()
