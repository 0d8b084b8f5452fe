"""One scan, one lesion or several: probability, heat on the scan's own grid, and the picture."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

from genomic_vit.data.case import Reading, cut_case
from genomic_vit.data.slab import place_on_scan
from genomic_vit.evaluation.explain import RELEVANCE, slab_diagnostics, write_relevance
from genomic_vit.evaluation.inference import slab_heat
from genomic_vit.evaluation.overlay import describe, draw_overlay
from genomic_vit.imaging.write import write_volume
from genomic_vit.models.diagnostics import describe_diagnostics, joined
from genomic_vit.run import read_as
from genomic_vit.training.machine import best_device
from genomic_vit.training.run_folder import RunFolder
from genomic_vit.training.whole import write_text

log = logging.getLogger(__name__)


def predict_scan(
    run: Path,
    scan: Path,
    lesion: Path | str,
    out: Path,
    *,
    device: str = "auto",
    reading: Mapping[str, object] = MappingProxyType({}),
    relevance: bool = False,
    diagnostics: bool = False,
) -> dict[str, dict]:
    """Probabilities and heat of a lesion; writes prediction.json, heat.nii.gz (on the scan's grid) and overlay.png.

    Args:
        run: run folder.
        scan, lesion: as `open_scan` and `read_lesions` take them.
        out: folder to write; with several lesions one folder in it for each.
        device: auto, cpu, cuda or mps.
        reading: settings of `lesion` and `on_gap` that differ from the run's.
        relevance: also write relevance_TARGET.nii.gz and .png, the gradient-weighted rollout of each target.
        diagnostics: also log, layer by layer, what the rollout is made of.

    Returns:
        What each prediction.json holds, by the lesion's name, "" where there is one.

    Raises:
        UserError: run, scan or lesion cannot be used.
    """
    folder, place = RunFolder(run), best_device(device)
    config, model = read_as(folder.read_config(), reading), folder.load_model(place)
    case = cut_case(scan, lesion, Reading.of(config))
    answers = {}
    for found, slab in zip(case.lesions, case.slabs, strict=True):
        probability, heat = slab_heat(model, slab, config.view, place)
        where = out / found.name
        where.mkdir(parents=True, exist_ok=True)
        if (where / "prediction.json").exists():  # of an earlier call, maybe of another scan: nothing of it may stay
            for stale in where.glob("relevance_*"):
                stale.unlink()
        write_volume(place_on_scan(heat, slab.geometry, case.scan.geometry), where / "heat.nii.gz")
        title = describe(config.targets, probability) + "   (for research, not a medical device)"
        draw_overlay(slab, heat, config.view.window_hu, title, where / "overlay.png")
        answers[found.name] = answer = {
            "probability": {target: round(float(p), 6) for target, p in zip(config.targets, probability, strict=True)},
            "scan": str(scan),
            "series": case.scan.identity.series_uid if case.scan.identity else None,
            "lesion": str(lesion),
            "lesion_extent": found.measured,
            "run": str(run),
            "heat": "attention rollout of the ViT (class-agnostic), 1.0 = even share, 0 outside the slab",
            "slices": len(slab.hu),
            "version": version("genomic_vit"),
            "notice": "For research, not a medical device.",
        }
        if relevance:
            answer["relevance"] = RELEVANCE
            write_relevance(model, slab, config, case.scan.geometry, probability, where, place)
        if diagnostics:
            seen = joined([*slab_diagnostics(model, slab, config.view, place)])
            log.info("%s", describe_diagnostics(seen, config.rollout.start_layer))
        write_text(where / "prediction.json", json.dumps(answer, indent=2))
    return answers
