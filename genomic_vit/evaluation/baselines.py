"""Baselines of scikit-learn: every scale, filling and weight is fitted inside the training part."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

INNER_FOLDS = 5


def build_baseline(estimator: Literal["logistic", "forest"], seed: int) -> Pipeline:
    """Numbers, the median where missing, standardised; categories as columns, "missing" among them; then the model."""
    numbers = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    categories = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="missing"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    columns = ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include="number")),
            ("categories", categories, make_column_selector(dtype_exclude="number")),
        ]
    )
    models = {
        "logistic": LogisticRegression(max_iter=5000),
        "forest": RandomForestClassifier(500, min_samples_leaf=3, random_state=seed),
    }
    return Pipeline([("columns", columns), ("model", models[estimator])])


def fit_and_score(
    estimator: Literal["logistic", "forest", "plain"],
    table: pd.DataFrame,
    label: np.ndarray,
    patients: np.ndarray,
    learning: np.ndarray,
    testing: np.ndarray,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of cases learnt from, each by a model that did not see its patient, and of cases held out.

    The former are for what is chosen afterwards (calibration, threshold); the latter come from a model of all
    `learning` cases.

    Args:
        estimator: see `build_baseline`; plain is the table's one column as it is. Where the classes are matched by it,
            a fitted slope takes whichever sign the training part is off by, and tells the held-out part wrong: AUC
            0.360 (0.263 to 0.464) on 120 phantoms matched by size.
        table: features, (case feature).
        label: 0, 1, or NaN where missing, (case); cases without one are not learnt from.
        patients: (case).
        learning, testing: indices of cases.
        seed: of folds and forest.

    Returns:
        scores in [0, 1] of `learning` (NaN where the label is missing) and of `testing`.
    """
    if estimator == "plain":
        score = _standing(table.iloc[:, 0].to_numpy(dtype=float), learning)
        return score[learning], score[testing]
    known = learning[~np.isnan(label[learning])]
    x, y, groups = table.iloc[known], label[known].astype(int), patients[known]
    model = build_baseline(estimator, seed)
    folds = min(INNER_FOLDS, *(len(set(groups[y == kind])) for kind in (0, 1)))
    inner = np.full(len(label), np.nan)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*unknown categories.*")  # expected where a site is held out
        warnings.filterwarnings("ignore", ".*without any observed values.*")
        if folds >= 2:
            splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
            inner[known] = cross_val_predict(model, x, y, groups=groups, cv=splits, method="predict_proba")[:, 1]
        tested = model.fit(x, y).predict_proba(table.iloc[testing])[:, 1]
    return inner[learning], tested


def _standing(value: np.ndarray, learning: np.ndarray) -> np.ndarray:
    """Where each value stands among those of the cases learnt from, in (0, 1), increasing; 0.5 where it is missing."""
    middle, spread = np.nanmean(value[learning]), np.nanstd(value[learning])
    return np.nan_to_num(1 / (1 + np.exp(-(value - middle) / (spread or 1.0))), nan=0.5)
