"""An inventory for people: a CSV, and one self-contained page with nine slices and lesion outline of each case."""

from __future__ import annotations

import base64
import html
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from genomic_vit.cohort.table import write_rows
from genomic_vit.data.findings import Finding
from genomic_vit.data.inventory import CaseReport

VERDICTS = ("unusable", "doubtful", "usable")
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; color: #1b1f24 }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin: 0 0 .4rem } .counts span { margin-right: 1.2rem }
article { display: flex; gap: 1.2rem; border: 1px solid #d0d7de; border-radius: 8px; padding: 1rem; margin: 1rem 0 }
article img { width: 400px; height: 400px; flex: none; background: #000 }
.none { width: 400px; flex: none; color: #666 }
.tag { border-radius: 4px; padding: .05rem .5rem; color: #fff; font-size: .85rem; font-weight: 600 }
.unusable { background: #b42318 } .doubtful { background: #b25e09 } .usable { background: #1a7f37 }
dl { display: grid; grid-template-columns: 9rem 1fr; gap: .1rem .8rem; margin: .6rem 0; font-size: .88rem }
dt { color: #57606a } dd { margin: 0; overflow-wrap: anywhere } li { margin: .2rem 0 } .repair { color: #0550ae }
details { font-size: .88rem } @media (max-width: 60rem) { article { flex-direction: column } }
"""


def write_inventory_csv(path: Path, reports: Sequence[CaseReport]) -> None:
    """One row a case: verdict, facts, findings with their repairs."""
    columns = list(dict.fromkeys(name for report in reports for name in report.facts))
    rows = [
        [
            *(report.case, report.patient, report.verdict),
            *(report.facts.get(name, "") for name in columns),
            "; ".join(map(str, report.findings)),
        ]
        for report in reports
    ]
    write_rows(path, [["case", "patient", "verdict", *columns, "findings"], *rows])


def write_inventory_page(path: Path, reports: Sequence[CaseReport], title: str, remarks: Sequence[str]) -> None:
    """The page, whole or not at all; the worst cases first."""
    counted = Counter(report.verdict for report in reports)
    counts = " ".join(f"<span>{_tag(verdict)} {counted[verdict]}</span>" for verdict in VERDICTS)
    said = "".join(f"<li>{html.escape(remark)}</li>" for remark in remarks)
    ordered = sorted(reports, key=lambda report: VERDICTS.index(report.verdict))
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>")
        file.write(f"<meta name=viewport content='width=device-width'><style>{STYLE}</style>")
        file.write(f"<h1>{html.escape(title)}</h1><p class=counts>{counts}</p><ul>{said}</ul>")
        file.write("<p>Nine slices around the lesion's middle, superior first; the patient's right is at the left.</p>")
        for report in ordered:
            file.write(_article(report))
        file.write("<p>For research, not a medical device.</p></html>\n")
    part.replace(path)


def _article(report: CaseReport) -> str:
    shown = "<div class=none>no picture</div>"
    if report.picture is not None:
        data = base64.b64encode(report.picture).decode()
        shown = f"<img alt='nine slices of {html.escape(report.case, quote=True)}' src='data:image/jpeg;base64,{data}'>"
    facts = "".join(
        f"<dt>{html.escape(name.replace('_', ' '))}</dt><dd>{html.escape(text)}</dd>"
        for name, text in report.facts.items()
        if text and name != "refused"
    )
    refused = report.facts.get("refused", "")
    others = "".join(f"<li>{html.escape(line)}</li>" for line in refused.split(" | ") if line)
    others = f"<details><summary>series not chosen</summary><ul>{others}</ul></details>" if others else ""
    found = "".join(f"<li>{_finding(finding)}</li>" for finding in report.findings)
    return (
        f"<article id='{html.escape(report.case, quote=True)}'>{shown}<div><h2>{html.escape(report.case)} "
        f"{_tag(report.verdict)}</h2>patient {html.escape(report.patient)}<ul>{found}</ul>"
        f"<dl>{facts}</dl>{others}</div></article>"
    )


def _finding(finding: Finding) -> str:
    repair = f": <span class=repair>{html.escape(finding.repair)}</span>" if finding.repair else ""
    return html.escape(finding.text) + repair


def _tag(verdict: str) -> str:
    return f"<span class='tag {verdict}'>{verdict}</span>"
