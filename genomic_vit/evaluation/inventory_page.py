"""An inventory for people: a CSV, and self-contained pages with nine slices and lesion outline of each case."""

from __future__ import annotations

import base64
import html
import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from genomic_vit.cohort.table import write_rows
from genomic_vit.data.findings import Finding
from genomic_vit.data.inventory import CaseReport
from genomic_vit.data.picture_file import InventoryError, PictureFile

VERDICTS = ("unusable", "doubtful", "usable")
PER_PAGE = 300  # cases, 10 to 20 MB
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


def write_inventory(
    folder: Path, reports: Sequence[CaseReport], pictures: PictureFile, title: str, remarks: Sequence[str]
) -> int:
    """doctor.csv, and doctor.html with the worst cases first; beyond PER_PAGE cases doctor-2.html and so on.

    Every page stands alone, its pictures within it, and the set is written whole or not at all. Pages of an earlier,
    larger inventory in the folder are removed.

    Returns:
        the number of pages.

    Raises:
        InventoryError: the folder cannot be written.
    """
    worst_first = sorted(reports, key=lambda report: VERDICTS.index(report.verdict))
    pages = [worst_first[start : start + PER_PAGE] for start in range(0, len(worst_first), PER_PAGE)] or [[]]
    names = [_name(number) for number in range(len(pages))]
    parts = [folder / f".{name}.part" for name in names]
    try:
        head = _head(reports, title, remarks)
        for number, (part, page) in enumerate(zip(parts, pages, strict=True)):
            with part.open("w", encoding="utf-8") as file:
                file.write(head)
                file.write(_links(number, pages))
                file.writelines(_article(report, pictures.get(report.case)) for report in page)
                file.write("<p>For research, not a medical device.</p></html>\n")
        page_of = {report.case: name for name, page in zip(names, pages, strict=True) for report in page}
        _write_csv(folder / "doctor.csv", reports, page_of)
        for part, name in reversed(list(zip(parts, names, strict=True))):  # the first page last: it names the others
            part.replace(folder / name)
        for old in folder.glob("doctor-*.html"):
            if re.fullmatch(r"doctor-\d+\.html", old.name) and old.name not in names:
                old.unlink()
    except OSError as problem:
        raise InventoryError(
            f"{problem.filename or folder}: the inventory cannot be written ({problem.strerror}); make room, or name "
            "another folder with --out."
        ) from problem
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return len(pages)


def _write_csv(path: Path, reports: Sequence[CaseReport], page: dict[str, str]) -> None:
    """One row a case: verdict, page, facts, findings with their repairs."""
    columns = list(dict.fromkeys(name for report in reports for name in report.facts))
    rows = (
        [
            *(report.case, report.patient, report.verdict, page[report.case]),
            *(report.facts.get(name, "") for name in columns),
            "; ".join(map(str, report.findings)),
        ]
        for report in reports
    )
    write_rows(path, chain([["case", "patient", "verdict", "page", *columns, "findings"]], rows))


def _head(reports: Sequence[CaseReport], title: str, remarks: Sequence[str]) -> str:
    counted = Counter(report.verdict for report in reports)
    counts = " ".join(f"<span>{_tag(verdict)} {counted[verdict]}</span>" for verdict in VERDICTS)
    said = "".join(f"<li>{html.escape(remark)}</li>" for remark in remarks)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<meta name=viewport content='width=device-width'><style>{STYLE}</style>"
        f"<h1>{html.escape(title)}</h1><p class=counts>{counts}</p><ul>{said}</ul>"
        "<p>Nine slices around the lesion's middle, superior first; the patient's right is at the left.</p>"
    )


def _name(number: int) -> str:
    return f"doctor-{number + 1}.html" if number else "doctor.html"


def _links(number: int, pages: list[list[CaseReport]]) -> str:
    """Which cases a page shows, and the way to the others; nothing where there is one page only."""
    if len(pages) == 1:
        return ""
    total = sum(map(len, pages))
    first = number * PER_PAGE
    way = [("first", 0)] * (number > 0) + [("previous", number - 1)] * (number > 0)
    way += [("next", number + 1)] * (number + 1 < len(pages))
    links = " ".join(f"<a href='{_name(at)}'>{word}</a>" for word, at in way)
    here = (
        f"Page {number + 1} of {len(pages)}, cases {first + 1} to {first + len(pages[number])} of {total}, worst first"
    )
    if number:
        return f"<p>{here}. {links}</p>"
    others = "".join(
        f"<li><a href='{_name(at)}'>page {at + 1}</a>: {page[0].verdict}"
        f"{f' to {page[-1].verdict}' if page[-1].verdict != page[0].verdict else ''}, {html.escape(page[0].case)} to "
        f"{html.escape(page[-1].case)}</li>"
        for at, page in enumerate(pages)
        if at
    )
    told = "doctor.csv names the page of every case"
    return f"<p>{here}; {told}. {links}</p><details><summary>all pages</summary><ul>{others}</ul></details>"


def _article(report: CaseReport, picture: bytes | None) -> str:
    shown = "<div class=none>no picture</div>"
    if picture is not None:
        data = base64.b64encode(picture).decode()
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
