"""What the baselines without a network see: tables of features, one row a case."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import SimpleITK as sitk

from genomic_vit.cohort.labels import Covariate
from genomic_vit.data.entry import PreparedSlab
from genomic_vit.data.slab import Slab

RIM_MM = 3.0  # the surroundings whose HU are told too
SHAPE = {
    "volume_mm3": "GetPhysicalSize",
    "surface_mm2": "GetPerimeter",
    "roundness": "GetRoundness",
    "elongation": "GetElongation",
    "flatness": "GetFlatness",
    "feret_mm": "GetFeretDiameter",
}
INTENSITY = {
    "hu_mean": "GetMean",
    "hu_median": "GetMedian",
    "hu_sd": "GetStandardDeviation",
    "hu_minimum": "GetMinimum",
    "hu_maximum": "GetMaximum",
    "hu_skewness": "GetSkewness",
    "hu_kurtosis": "GetKurtosis",
}


def radiomics(slabs: Sequence[Slab | PreparedSlab]) -> pd.DataFrame:
    """Size, shape and HU features of each lesion by SimpleITK's label statistics on its slab; NaN where undefined."""
    return pd.DataFrame([_lesion_features(slab) for slab in slabs]).replace([np.inf, -np.inf], np.nan)


def size(slabs: Sequence[Slab | PreparedSlab]) -> pd.DataFrame:
    """Lesion diameter, mm; NaN where the lesion has no outline."""
    return pd.DataFrame({"diameter_mm": [slab.diameter_mm for slab in slabs]})


def covariate_table(covariates: Sequence[Covariate]) -> pd.DataFrame:
    """Covariates as columns: numbers as floats, categories as text; missing ones as NaN."""
    return pd.DataFrame(
        {
            covariate.name: covariate.values.astype(float)
            if covariate.kind == "number"
            else pd.Series(np.where(covariate.missing, None, covariate.values), dtype=object)
            for covariate in covariates
        }
    )


def _lesion_features(slab: Slab) -> dict[str, float]:
    hu, lesion = sitk.GetImageFromArray(slab.hu), sitk.GetImageFromArray(slab.lesion.astype(np.uint8))
    for image in (hu, lesion):
        image.SetSpacing([float(step_mm) for step_mm in slab.geometry.spacing_mm[::-1]])
    shape, intensity = sitk.LabelShapeStatisticsImageFilter(), sitk.LabelIntensityStatisticsImageFilter()
    shape.ComputeFeretDiameterOn()
    shape.Execute(lesion)
    intensity.Execute(lesion, hu)
    features = {"diameter_mm": slab.diameter_mm}
    features |= {name: float(getattr(shape, getter)(1)) for name, getter in SHAPE.items()}
    features |= {name: float(getattr(intensity, getter)(1)) for name, getter in INTENSITY.items()}
    near = sitk.SignedMaurerDistanceMap(lesion, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    away_mm = sitk.GetArrayViewFromImage(near)
    rim = slab.hu[(away_mm > 0) & (away_mm <= RIM_MM)]
    return features | {
        "rim_hu_mean": float(rim.mean()) if rim.size else np.nan,
        "rim_hu_sd": float(rim.std()) if rim.size else np.nan,
    }
