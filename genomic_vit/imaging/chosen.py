"""Which of several drawings in one file is meant, and whether the file belongs to the scan."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import NamedTuple

from genomic_vit.imaging.errors import LesionError
from genomic_vit.imaging.scan import SeriesIdentity


class Entry(NamedTuple):
    """One drawing: an ROI of an RTSTRUCT, a segment of a SEG, a label of a mask image."""

    number: int
    name: str

    def __str__(self) -> str:
        return f"{self.number} {self.name!r}" if self.name else str(self.number)


class References(NamedTuple):
    """What a SEG or RTSTRUCT says of the images it was drawn on."""

    series_uids: tuple[str, ...]
    sop_uids: frozenset[str]
    frame_uid: str | None

    def name(self, identity: SeriesIdentity | None) -> bool:
        """Whether the scan is one of those images."""
        return identity is not None and (
            identity.series_uid in self.series_uids or bool(self.sop_uids & set(identity.sop_uids))
        )


def choose(entries: list[Entry], roi: str | None, noun: str, where: str) -> tuple[list[Entry], tuple[str, ...]]:
    """The drawings that `roi` names, and what to say of the choice.

    Args:
        entries: all there are.
        roi: a number, a name, or a pattern with * ? [ (names in any case); a pattern may take several, as one
            drawing. None takes the only one.
        noun: what they are called in messages.
        where: the file.

    Raises:
        LesionError: none fits, or several where one was meant; lists them.
    """
    listed = ", ".join(map(str, entries)) or "none"
    if roi is None:
        if len(entries) == 1:
            return entries, ()
        raise LesionError(
            f"{where}: holds {len(entries)} {noun}s that draw something ({listed}); exactly one is taken unasked. "
            "Name the lesion's with --roi NUMBER, NAME or a pattern such as 'GTV*'."
        )
    wanted = roi.strip()
    found = [entry for entry in entries if entry.name.strip().lower() == wanted.lower()]
    found = found or [entry for entry in entries if wanted.isdecimal() and entry.number == int(wanted)]
    is_pattern = not found and any(mark in wanted for mark in "*?[")
    if is_pattern:
        found = [entry for entry in entries if fnmatch(entry.name.strip().lower(), wanted.lower())]
    if not found:
        raise LesionError(f"{where}: no {noun} that draws something is {roi!r}; found: {listed}. Choose with --roi.")
    if len(found) > 1 and not is_pattern:
        several = ", ".join(map(str, found))
        raise LesionError(f"{where}: {roi!r} names {len(found)} {noun}s ({several}); give the number with --roi.")
    if len(found) == 1:
        return found, ()
    return found, (f"--roi {roi} takes {noun}s {', '.join(map(str, found))} together",)


def check_belongs(said: References, identity: SeriesIdentity | None, where: str) -> tuple[str, ...]:
    """What to say of how a SEG or RTSTRUCT belongs to its scan.

    Raises:
        LesionError: it was drawn on another series, in another frame of reference; names both.
    """
    if identity is None:
        return ("the scan is no DICOM series: that the two belong together is judged by position alone",)
    if said.name(identity):
        return ()
    drawn_on = " or ".join(said.series_uids) or "of no stated UID"
    if said.frame_uid and said.frame_uid == identity.frame_uid:
        return (f"drawn on series {drawn_on}, placed on series {identity.series_uid} by their frame of reference",)
    if not said.series_uids and not said.frame_uid:
        return ("names neither series nor frame of reference: judged by position alone",)
    raise LesionError(
        f"{where}: was drawn on series {drawn_on} (frame of reference {said.frame_uid or 'not stated'}), the chosen "
        f"scan is series {identity.series_uid} (frame of reference {identity.frame_uid or 'not stated'}); one of the "
        "two must agree. Give the scan it was drawn on, or the lesion file of this scan."
    )
