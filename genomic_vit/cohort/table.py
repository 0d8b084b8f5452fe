"""A clinical table as it comes: CSV or XLSX, with headers found as people write them."""

from __future__ import annotations

import csv
import datetime
import difflib
import io
import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from genomic_vit.config import UserError, plain_text

DELIMITERS = ",;\t|"
log = logging.getLogger(__name__)


class LabelError(UserError):
    """A label table cannot be used as asked; the message says where, what was found, and what to do."""


@dataclass(frozen=True)
class Table:
    """Rows of text cells.

    Args:
        where: the file, for messages.
        header: column names as written, white space trimmed.
        rows: cells by column name, white space trimmed.
    """

    where: str
    header: tuple[str, ...]
    rows: tuple[dict[str, str], ...]

    def find(self, wanted: str) -> str:
        """The column meant by `wanted`: spelled so, or so but for case, white space and underscores.

        A star at the end stands for any rest ("Diagnosis at the Patient Level*").

        Raises:
            LabelError: there is none, or more than one; near misses are suggested.
        """
        if wanted.strip() in self.header:
            return wanted.strip()
        plain = plain_text(wanted)
        begins = plain[:-1] if plain.endswith("*") else None
        found = [name for name in self.header if plain_text(name) == plain]
        found += [name for name in self.header if begins and plain_text(name).startswith(begins)]
        if len(found) == 1:
            return found[0]
        if found:
            raise LabelError(f"{self.where}: column {wanted!r} may mean {' or '.join(map(repr, found))}; spell it so.")
        known = {plain_text(name): name for name in self.header}
        near = difflib.get_close_matches(plain, known, n=2, cutoff=0.7)
        near += [text for text in known if plain and plain in text and text not in near][:3]
        listed = " or ".join(repr(known[text]) for text in near[:3])
        hint = f"did you mean {listed}?" if near else f"it has: {', '.join(self.header)}"
        raise LabelError(f"{self.where}: no column {wanted!r}; {hint}")

    def cells(self, column: str) -> list[str]:
        """The column's cells; `column` as `find` takes it."""
        name = self.find(column)
        return [row[name] for row in self.rows]


def read_table(path: str | Path, sheet: str | None = None) -> Table:
    """Read a CSV (comma, semicolon, tab or bar; UTF-8) or XLSX.

    Args:
        path: the file.
        sheet: of an XLSX; None takes the first.

    Raises:
        LabelError: the file is missing, is no table, or holds no rows.
    """
    path = Path(path)
    if not path.is_file():
        raise LabelError(f"{path}: no such label table; check the path.")
    lines = _read_xlsx(path, sheet) if path.suffix.lower() in (".xlsx", ".xlsm") else _read_csv(path)
    lines = [line for line in lines if any(line)]
    if len(lines) < 2:
        raise LabelError(f"{path}: holds no rows below its header; one row a patient is needed.")
    width = max(place + 1 for line in lines for place, cell in enumerate(line) if cell)
    header = [(name if name else f"column {place}") for place, name in enumerate(_padded(lines[0], width), start=1)]
    for name in [name for name, count in Counter(header).items() if count > 1]:  # not to be taken for one another
        places = [place for place, other in enumerate(header) if other == name]
        for number, place in enumerate(places, start=1):
            header[place] = f"{name} ({number})"
    rows = tuple(dict(zip(header, _padded(line, width), strict=True)) for line in lines[1:])
    return Table(str(path), tuple(header), rows)


def write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _padded(line: list[str], width: int) -> list[str]:
    return (line + [""] * width)[:width]


def _read_csv(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as cause:
        raise LabelError(
            f"{path}: is not text in UTF-8 ({cause.reason} at byte {cause.start}); save it as CSV UTF-8."
        ) from cause
    first = next(iter(text.splitlines()), "")
    mark = max(DELIMITERS, key=first.count)  # the first of equals, so the comma where there is none
    try:
        return [[cell.strip() for cell in line] for line in csv.reader(io.StringIO(text, newline=""), delimiter=mark)]
    except csv.Error as cause:
        raise LabelError(f"{path}: is not a CSV ({cause}); save it as CSV UTF-8.") from cause


def _read_xlsx(path: Path, sheet: str | None) -> list[list[str]]:
    import openpyxl  # here: half a second that a CSV need not wait for

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as cause:  # openpyxl raises many kinds; to the user they are one
        raise LabelError(f"{path}: cannot be read as XLSX ({type(cause).__name__}: {cause}); save it again.") from cause
    with_names = {plain_text(name): name for name in book.sheetnames}
    if sheet is not None and plain_text(sheet) not in with_names:
        raise LabelError(f"{path}: no sheet {sheet!r}; it has: {', '.join(book.sheetnames)}")
    name = with_names[plain_text(sheet)] if sheet is not None else book.sheetnames[0]
    if sheet is None and len(book.sheetnames) > 1:
        log.warning(
            "%s: sheet %r is read, the first of %d; name another as the sheet", path, name, len(book.sheetnames)
        )
    lines = [[_as_text(value) for value in line] for line in book[name].iter_rows(values_only=True)]
    book.close()
    return lines


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()  # as spreadsheets show it
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        value = value.date()
    return value.isoformat() if isinstance(value, datetime.date) else str(value).strip()
