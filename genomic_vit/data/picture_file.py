"""Pictures of a cohort on disk, so that memory does not grow by one a case."""

from __future__ import annotations

import tempfile
from pathlib import Path

from genomic_vit.config import UserError

KB_A_CASE = 100  # a picture of 20 to 40, and the same again, a third larger, in its page


class InventoryError(UserError):
    """The folder of an inventory cannot be written; the message says why and what to do."""


class PictureFile:
    """JPEGs by the name of their case, in a nameless file that goes when the process ends, however it ends.

    Args:
        folder: where; it exists.

    Raises:
        InventoryError: nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[str, tuple[int, int]] = {}
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (closed by __exit__)
        except OSError as problem:
            raise InventoryError(
                f"{folder}: cannot be written ({problem.strerror}); name another folder with --out, or leave it out."
            ) from problem

    def __enter__(self) -> PictureFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __setitem__(self, case: str, picture: bytes) -> None:
        try:
            place = self._file.seek(0, 2)
            written = self._file.write(picture)
        except OSError as problem:
            raise self._no_room(problem.strerror) from problem
        if written < len(picture):
            raise self._no_room("no room left")
        self._places[case] = place, len(picture)

    def get(self, case: str) -> bytes | None:
        """The picture of a case; None where there is none."""
        if case not in self._places:
            return None
        place, size = self._places[case]
        self._file.seek(place)
        return self._file.read(size)

    def _no_room(self, why: str) -> InventoryError:
        return InventoryError(
            f"{self._folder}: the pictures cannot be kept ({why}); make room, {KB_A_CASE} KB a case, name another "
            "folder with --out, or leave it out."
        )
