"""What a run leaves on disk, and how it is read back."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from genomic_vit.cohort.folds import Split
from genomic_vit.cohort.manifest import Cohort
from genomic_vit.config import RunConfig, UserError, from_tree
from genomic_vit.models.genomic_vit import GenomicViT, build_model
from genomic_vit.models.pretrained import PretrainedReport


class RunError(UserError):
    """A run folder cannot be used as asked; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Paths and files of one run.

    config.yaml  split.csv  excluded.csv  environment.json  logs/STAGE/session_N/  checkpoints/STAGE/{best,last,done}
    model.safetensors  predictions.csv  metrics.json (last of all: a run that has it is complete)
    """

    path: Path

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    def has_checkpoints(self) -> bool:
        """Whether any stage was trained far enough to be continued."""
        return any(self.path.glob("checkpoints/*/last.ckpt"))

    def check_pretrained(self, report: PretrainedReport) -> None:
        """Raise RunError unless `report` is of the very file that the run began with."""
        began = json.loads(self.environment.read_text(encoding="utf-8")).get("pretrained", {}).get("sha256")
        if began != report.sha256:
            raise RunError(
                f"{report.source}: is not the file this run began with (SHA-256 {report.sha256}, then {began}). "
                "Put that file back, or start another run with another --out."
            )

    def check_free(self, *, resume: bool, overwrite: bool) -> None:
        """Raise RunError unless a run may be written here."""
        if resume and overwrite:
            raise RunError("--resume continues a run and --overwrite deletes it; give one of them.")
        if not self.path.exists() or not any(self.path.iterdir() if self.path.is_dir() else [self.path]):
            return
        if not self.config.is_file():
            raise RunError(f"{self.path}: exists, but is not a run folder; give an empty or new folder with --out.")
        if not resume and not overwrite:
            raise RunError(f"{self.path}: already holds a run; pass --resume, --overwrite, or another --out.")

    def start(
        self, config: RunConfig, split: Split, cohort: Cohort, pretrained: PretrainedReport | None = None
    ) -> None:
        """Make the folder anew, with what is known before training."""
        if self.path.exists() and self.config.is_file():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        part = {index: name for name in ("train", "validation", "test") for index in getattr(split, name)}
        rows = [(case.case, case.patient, split.folds[i], part[i]) for i, case in enumerate(cohort.cases)]
        write_csv(self.path / "split.csv", ("case", "patient", "fold", "part"), rows)
        known: dict = environment()
        if pretrained:
            known["pretrained"] = {
                name: getattr(pretrained, name) for name in ("source", "sha256", "naming", "adapted", "as_built")
            }
        write_text(self.environment, json.dumps(known, indent=2))
        write_text(self.config, yaml.safe_dump(to_tree(config), sort_keys=False))

    def read_config(self) -> RunConfig:
        """The resolved config of the run.

        Raises:
            RunError: the folder holds no run.
            ConfigError: its config.yaml has unknown or impossible settings.
        """
        if not self.config.is_file():
            raise RunError(f"{self.path}: holds no run (no config.yaml); give the folder that train made.")
        return from_tree(yaml.safe_load(self.config.read_text(encoding="utf-8")), str(self.config))

    def check_same(self, config: RunConfig) -> None:
        """Raise RunError naming the settings in which `config` and the run's own differ."""
        theirs, ours = flatten(to_tree(self.read_config())), flatten(to_tree(config))
        differ = [f"{key} (run: {theirs[key]!r}, now: {ours[key]!r})" for key in theirs if theirs[key] != ours[key]]
        if differ:
            raise RunError(
                f"{self.path}: cannot resume with other settings: {'; '.join(differ)}. Repeat the command that started "
                "the run and add --resume, or start another run with another --out."
            )

    def save_model(self, model: GenomicViT) -> None:
        """Weights as safetensors, whole or not at all."""
        part = self.weights.with_suffix(".part")
        save_file({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}, part)
        os.replace(part, self.weights)

    def load_model(self, device: torch.device) -> GenomicViT:
        """The trained network in evaluation mode.

        Raises:
            RunError: the weights are missing, damaged, or of another shape than config.yaml says.
        """
        model = build_model(self.read_config())
        if not self.weights.is_file():
            raise RunError(f"{self.weights}: missing; the run was not finished. Continue it with train --resume.")
        try:
            state = load_file(self.weights)
        except (SafetensorError, OSError) as cause:
            raise RunError(f"{self.weights}: damaged ({cause}); copy it again, or train again.") from cause
        needed = model.state_dict()
        wrong = [
            f"{name}: file {tuple(state[name].shape) if name in state else 'lacks it'}, config {tuple(value.shape)}"
            for name, value in needed.items()
            if name not in state or state[name].shape != value.shape
        ]
        extra = [f"{name}: in the file only" for name in state if name not in needed]
        if wrong or extra:
            shown = "; ".join((wrong + extra)[:3])
            raise RunError(
                f"{self.weights}: does not fit {self.config.name}: {len(wrong + extra)} tensors differ ({shown}). "
                "Keep weights and config of one run together."
            )
        model.load_state_dict(state)
        return model.to(device).eval()


def write_predictions(path: Path, cohort: Cohort, probability: np.ndarray, folds: np.ndarray, part: np.ndarray) -> None:
    """One row a case: case, patient, fold, part, then label and probability of each target."""
    header = ["case", "patient", "fold", "part"]
    for target in cohort.targets:
        header += [target, f"{target}_probability"]
    rows = []
    for i, case in enumerate(cohort.cases):
        row = [case.case, case.patient, folds[i], part[i]]
        for label, p in zip(cohort.labels[i], probability[i], strict=True):
            row += ["" if np.isnan(label) else int(label), f"{p:.6f}"]
        rows.append(row)
    write_csv(path, header, rows)


def write_csv(path: Path, header: tuple | list, rows: list) -> None:
    """A CSV in UTF-8."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def write_text(path: Path, text: str) -> None:
    """Text that is there whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text + "\n", encoding="utf-8")
    os.replace(part, path)


def environment() -> dict[str, str]:
    """Versions and machine, for the record."""
    packages = (
        *("genomic_vit", "torch", "lightning", "monai", "numpy", "SimpleITK", "nibabel"),
        *("scikit-learn", "scipy", "statsmodels", "pandas"),
    )
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {"python": platform.python_version(), "platform": platform.platform(), "device": machine} | {
        name: version(name) for name in packages
    }


def to_tree(config: RunConfig) -> dict:
    """The config as nested plain values, as YAML holds it."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def flatten(tree: dict, prefix: str = "") -> dict[str, object]:
    """Nested settings by dotted name."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
