"""python -m genomic_vit.predict: a trained model on one scan; the answer, and its heat on the scan's own grid."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from genomic_vit.cli import parse, run_command

DISCLAIMER = "For research, not a medical device."


def main(argv: list[str] | None = None) -> int:
    """Parse, predict, print; returns the exit code."""
    return run_command(lambda: predict(sys.argv[1:] if argv is None else argv))


def predict(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m genomic_vit.predict",
        description=f"Probability of each target for one lesion, and a heat map on the scan's grid. {DISCLAIMER}",
    )
    parser.add_argument("run", metavar="RUN", help="run folder that train made")
    parser.add_argument("scan", metavar="SCAN", help="NIfTI, NRRD, MHA or MHD file; DICOM folder; zip or tar of one")
    parser.add_argument("--lesion", required=True, metavar="MASK", help="mask image of the lesion")
    parser.add_argument(
        "--on-gap",
        choices=("error", "resample"),
        help="missing or uneven DICOM slices: refuse the series, or interpolate (default: as in the run)",
    )
    parser.add_argument(
        "--out", required=True, metavar="OUT", help="folder for prediction.json, heat.nii.gz, overlay.png"
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    options = parse(parser, argv)

    from genomic_vit.run import predict_scan

    answer = predict_scan(
        Path(options.run), Path(options.scan), Path(options.lesion), Path(options.out), options.device, options.on_gap
    )
    print(json.dumps(answer["probability"]))
    print(f"written to {options.out}: prediction.json, heat.nii.gz, overlay.png. {DISCLAIMER}")


if __name__ == "__main__":
    sys.exit(main())
