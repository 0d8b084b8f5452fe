"""What killed processes left half done in a folder, removed when nobody can be at it any more."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path

STALE_S = 86_400  # by age, not by process: the folder may be written from other machines and containers


def sweep(folder: Path, *patterns: str) -> None:
    """Remove files and folders of these names in which nothing has happened for a day.

    What cannot be removed stays, as does what another command removes at the same time.
    """
    for path in [path for pattern in patterns for path in folder.glob(pattern)]:
        with suppress(OSError):
            if time.time() - _touched_s(path) < STALE_S:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _touched_s(path: Path) -> float:
    """When a file, or a folder or what lies in it, last changed."""
    inside = path.iterdir() if path.is_dir() else ()
    return max(place.lstat().st_mtime for place in (path, *inside))
