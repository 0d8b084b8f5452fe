"""Metrics in words."""

from __future__ import annotations


def summarise(metrics: dict) -> str:
    """A few lines for the terminal: each target's AUC with its interval, lesion diameter alone beside it."""
    lines = []
    for target, report in metrics.items():
        counts = report["counts"]
        if "reason" in report:
            lines.append(f"{target}: {report['reason']} ({counts['cases']} cases, {counts['positive']} positive)")
            continue
        lines.append(
            f"{target}: AUC {_interval(report['by_case']['auc'])} over {counts['cases']} cases of "
            f"{counts['patients']} patients ({counts['positive']} positive)"
        )
        if counts["cases"] > counts["patients"]:
            lines.append(f"  one row a patient: AUC {_interval(report['by_patient']['auc'])}")
        lines.append(f"  lesion diameter alone: {_diameter(report['diameter_alone'])}")
    return "\n".join(lines)


def _diameter(alone: dict) -> str:
    if "reason" in alone:
        return f"not known of enough cases ({alone['counts']['cases']} outlined; {alone['reason']})"
    over = f" over the {alone['counts']['cases']} cases outlined" if "counts" in alone else ""
    return f"AUC {_interval(alone['by_case']['auc'])}{over}"


def _interval(metric: dict[str, float]) -> str:
    return f"{metric['value']:.3f} (95 % interval {metric['low']:.3f} to {metric['high']:.3f})"
