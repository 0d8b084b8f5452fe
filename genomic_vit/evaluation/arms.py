"""The arms of the comparison, as data: what each one sees, how it learns, and where its answer comes from."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from genomic_vit.config import ConfigError

Heat = Literal["rollout", "none", "zero", "uniform", "shuffled", "lesion"]


@dataclass(frozen=True)
class NetworkArm:
    """A network trained in each fold.

    With heat that no ViT makes (zero, uniform, the lesion) nothing joins ViT and CNN, so the CNN is trained alone.

    Args:
        name: of the arm.
        says: what it is, in words.
        mode: schedule of stages that trains it.
        heat: what its CNN is given as heat, in training and after it.
        answer: the logits that count.
        rewards_lesion: whether heat on the lesion is rewarded, with the benchmark's lesion_weight.
    """

    name: str
    says: str
    mode: Literal["joint", "staged", "vit", "cnn"] = "joint"
    heat: Heat = "rollout"
    answer: Literal["logits", "vit_logits"] = "logits"
    rewards_lesion: bool = False


@dataclass(frozen=True)
class SwapArm:
    """A trained network whose heat is replaced when it is tested, and only then; `of` names the network's arm."""

    name: str
    says: str
    heat: Heat
    of: str = "joint"


@dataclass(frozen=True)
class TableArm:
    """A scikit-learn model of a table's columns, or its one column as it is.

    Args:
        name, says: as `NetworkArm`.
        features: the table.
        estimator: the model; plain takes the column itself, larger meaning positive.
    """

    name: str
    says: str
    features: Literal["radiomics", "clinical", "site", "size"]
    estimator: Literal["logistic", "forest", "plain"] = "logistic"


Arm = NetworkArm | SwapArm | TableArm
PUT = {
    "zero": "zero everywhere",
    "uniform": "the even share everywhere",
    "shuffled": "another patient's heat",
    "lesion": "the lesion outline",
}
ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        NetworkArm("joint", "ViT and CNN trained together through the rollout"),
        NetworkArm("joint+lesion", "joint, with heat on the lesion rewarded", rewards_lesion=True),
        NetworkArm("staged", "the ViT first, then, frozen, the CNN on its heat", "staged"),
        NetworkArm("cnn", "the same CNN on the grid alone", "cnn", heat="none"),
        NetworkArm("vit", "the ViT alone, by its own head", "vit", answer="vit_logits"),
        *(
            NetworkArm(
                f"heat-{heat}", f"joint, trained with {put} as heat", "joint" if heat == "shuffled" else "cnn", heat
            )
            for heat, put in (PUT | {"shuffled": "another case's heat"}).items()  # a batch knows no patients
        ),
        *(SwapArm(f"swap-{heat}", f"joint, tested with {put} as heat", heat) for heat, put in PUT.items()),
        TableArm("radiomics-lr", "size, shape and HU features, logistic regression", "radiomics"),
        TableArm("radiomics-rf", "size, shape and HU features, random forest", "radiomics", "forest"),
        TableArm("clinical", "covariates alone, logistic regression", "clinical"),
        TableArm("site", "acquisition and site alone, logistic regression", "site"),
        TableArm("size", "lesion diameter alone, larger taken as positive", "size", "plain"),
    )
}


def find_arm(name: str) -> Arm:
    """The arm of a name.

    Raises:
        ConfigError: there is none; the nearest is suggested.
    """
    if name not in ARMS:
        near = difflib.get_close_matches(name, ARMS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(ARMS)}"
        raise ConfigError(f"unknown arm {name!r}; {hint}")
    return ARMS[name]


def needs_outline(arm: Arm) -> bool:
    """Whether the arm is told where each lesion lies, in training or when it is tested."""
    if isinstance(arm, TableArm):
        return arm.features in ("radiomics", "size")
    return arm.heat == "lesion" or (isinstance(arm, NetworkArm) and arm.rewards_lesion)


def trained_for(arm: Arm) -> str:
    """Name of the arm whose training an arm's answer comes from: its own, or that of the network it swaps heat in."""
    return arm.of if isinstance(arm, SwapArm) else arm.name
