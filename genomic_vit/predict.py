"""python -m genomic_vit.predict: a trained model on one scan; the answer, and its heat on the scan's own grid."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from genomic_vit.cli import add_reading_options, parse, reading_options, run_command

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
    parser.add_argument(
        "--lesion",
        default="",
        metavar="LESION",
        help="mask image, DICOM SEG or RTSTRUCT, CSV of boxes by slice, point x,y,z or box:x0,y0,z0,x1,y1,z1 in mm; "
        "not needed with --field lung",
    )
    add_reading_options(parser)
    parser.add_argument(
        "--out", required=True, metavar="OUT", help="folder for prediction.json, heat.nii.gz, overlay.png"
    )
    parser.add_argument(
        "--relevance",
        action="store_true",
        help="also write relevance_TARGET.nii.gz and .png: what speaks for each target in the ViT's own head",
    )
    parser.add_argument(
        "--diagnostics", action="store_true", help="also print, layer by layer, what the heat is made of"
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    options = parse(parser, argv)

    from genomic_vit.run_prediction import predict_scan

    answers = predict_scan(
        Path(options.run),
        Path(options.scan),
        options.lesion,
        Path(options.out),
        device=options.device,
        reading=reading_options(options),
        relevance=options.relevance,
        diagnostics=options.diagnostics,
    )
    for name, answer in answers.items():
        print(f"{f'lesion {name}: ' if name else ''}{json.dumps(answer['probability'])}")
    places = ", ".join(str(Path(options.out) / name) for name in answers)
    more = ", relevance_TARGET.nii.gz and .png" if options.relevance else ""
    print(f"written to {places}: prediction.json, heat.nii.gz, overlay.png{more}. {DISCLAIMER}")


if __name__ == "__main__":
    sys.exit(main())
