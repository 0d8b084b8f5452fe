"""What a run leaves on disk, and how it is read back."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from genomic_vit.cohort.folds import Split
from genomic_vit.cohort.manifest import Cohort
from genomic_vit.config import RunConfig, UserError
from genomic_vit.config_tree import from_tree
from genomic_vit.data.prepare import Prepared
from genomic_vit.models.genomic_vit import GenomicViT, build_model
from genomic_vit.models.pretrained import PretrainedReport
from genomic_vit.models.weight_file import HEADS
from genomic_vit.training.environment import changes, environment
from genomic_vit.training.lock import is_trace
from genomic_vit.training.split_file import write_csv, write_split
from genomic_vit.training.whole import write_text, written_whole

log = logging.getLogger(__name__)


class RunError(UserError):
    """A run folder cannot be used as asked; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Paths and files of one run.

    config.yaml  environment.json  excluded.csv  notes.csv  split.csv (last of these: a run that has it has begun)
    logs/STAGE/session_N/  checkpoints/STAGE/{best.ckpt,epoch_N.ckpt,done}
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

    @property
    def split(self) -> Path:
        return self.path / "split.csv"

    def has_begun(self) -> bool:
        """Whether all is there that a run writes before it trains."""
        return self.config.is_file() and self.split.is_file()

    def checkpoints(self, stage: str) -> Path:
        """Folder of a stage's."""
        return self.path / "checkpoints" / stage

    def read_metrics(self) -> dict | None:
        """Metrics of a run that is complete; None where it is not."""
        try:
            return json.loads(self.metrics.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def compare_environment(self) -> None:
        """Warn where versions, machine or number of threads are not those that the run began with."""
        began = json.loads(self.environment.read_text(encoding="utf-8"))
        differ = [f"{name} {then}, now {now}" for name, (then, now) in changes(began, _environment()).items()]
        if differ:
            log.warning(
                "%s: began with %s; it goes on, but may not end bit for bit as it would have",
                self.path,
                "; ".join(differ),
            )

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
        if not self.path.exists():
            return
        if self.path.is_dir() and all(is_trace(path) for path in self.path.iterdir()):
            return
        if not self.config.is_file():
            raise RunError(f"{self.path}: exists, but is not a run folder; give an empty or new folder with --out.")
        if not resume and not overwrite:
            raise RunError(f"{self.path}: already holds a run; pass --resume, --overwrite, or another --out.")

    def start(self, config: RunConfig, prepared: Prepared, split: Split, pretrained: PretrainedReport | None) -> None:
        """Make the folder anew, with what is known before training; begun when its split is there, last of all."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.split.unlink(missing_ok=True)
        there = [path for path in self.path.iterdir() if not is_trace(path)]
        for path in sorted(there, key=lambda path: path == self.config):  # its config last: stopped, it is a run still
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        write_text(self.config, yaml.safe_dump(to_tree(config), sort_keys=False))
        known: dict = _environment()
        if pretrained:
            known["pretrained"] = {
                name: getattr(pretrained, name) for name in ("source", "sha256", "naming", "adapted", "as_built")
            }
        write_text(self.environment, json.dumps(known, indent=2))
        prepared.write_excluded(self.path)
        write_split(self.split, prepared, split)

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
        differ = [
            f"{key} (run: {_shown(theirs, key)}, now: {_shown(ours, key)})"
            for key in {**theirs, **ours}  # rules of labels are open: either may have some that the other lacks
            if _shown(theirs, key) != _shown(ours, key)
        ]
        if differ:
            raise RunError(
                f"{self.path}: cannot resume with other settings: {'; '.join(differ)}. Repeat the command that started "
                "the run and add --resume, or start another run with another --out."
            )

    def save_model(self, model: GenomicViT) -> None:
        """Weights as safetensors, whole or not at all."""
        state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        content = save(state, {HEADS: str(model.vit.blocks[0].attention.heads)})
        with written_whole(self.weights) as part:
            part.write_bytes(content)

    def load_model(self, device: torch.device, config: RunConfig | None = None) -> GenomicViT:
        """The trained network in evaluation mode.

        Args:
            device: where to put it.
            config: it was built by; None reads the folder's.

        Raises:
            RunError: the weights are missing, damaged, or of another shape than config.yaml says.
        """
        model = build_model(self.read_config() if config is None else config)
        if not self.weights.is_file():
            raise RunError(
                f"{self.weights}: missing. Put it back; a run that was not finished goes on with train --resume."
            )
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


def _environment() -> dict[str, str]:
    """Versions, machine and threads: in what shares a sum is taken, and so its last bits, goes by their number."""
    return environment() | {"threads": str(torch.get_num_threads())}


def to_tree(config: RunConfig) -> dict:
    """The config as nested plain values, as YAML holds it."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def flatten(tree: dict, prefix: str = "") -> dict[str, object]:
    """Nested settings by dotted name."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _shown(settings: dict[str, object], key: str) -> str:
    return repr(settings[key]) if key in settings else "not there"
