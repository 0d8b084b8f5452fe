"""Results as text: a number, its interval, a difference, a p, behind how many patients."""

from __future__ import annotations

import numpy as np
import pandas as pd


def interval_text(row: pd.Series, digits: int = 3) -> str:
    """value (low–high); `to` where a sign stands beside the dash; a dash alone where there is no value."""
    if np.isnan(row["value"]):
        return "–"
    dash = " to " if row["low"] < 0 or row["high"] < 0 else "–"
    return f"{row['value']:.{digits}f} ({row['low']:.{digits}f}{dash}{row['high']:.{digits}f})"


def difference_text(row: pd.Series) -> str:
    """Signed value (low to high)."""
    return f"{row['value']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"


def gap_text(row: pd.Series | None, arm: str, reference: str) -> str:
    """What stands in the column of differences from the reference; there are none where the reference is missing."""
    return difference_text(row) if row is not None else "reference" if arm == reference else "–"


def counts_text(row: pd.Series) -> str:
    """Behind how many cases and patients a number of these results stands."""
    return f"{row['cases']:.0f} cases of {row['patients']:.0f} patients, {row['positive']:.0f} positive"


def auc_text(here: pd.DataFrame, arm: str) -> str:
    """AUC of an arm in the results of one group, target and unit; a dash where those are withheld."""
    own = here[(here["arm"] == arm) & (here["metric"] == "auc")]
    return interval_text(own.iloc[0]) if len(own) else "–"


def withheld_text(here: pd.DataFrame) -> str:
    """Why the numbers of these rows are not given."""
    return f"withheld: {'; '.join(here[here['metric'] == 'withheld']['note'])}"


def number_text(value: float) -> str:
    """Three digits; a dash where there is none."""
    return "–" if np.isnan(value) else f"{value:.3f}"


def p_text(value: float) -> str:
    """Three digits, <0.001 below them; a dash where there is none."""
    return "–" if np.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"
