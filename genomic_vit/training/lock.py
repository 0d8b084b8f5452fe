"""One command at a time writes into a folder."""

from __future__ import annotations

import errno
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from genomic_vit.config import UserError
from genomic_vit.training.whole import write_text

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
LOCK, HOLDER = ".lock", ".holder.json"


class FolderError(UserError):
    """A folder is in use or cannot be written; the message says what to do."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, made where there is none, for as long as the block runs; if still empty then, it goes again.

    The lock is the operating system's and ends with the process that holds it, however that ends. Of several
    processes of one run, the first alone calls this, for all.

    Raises:
        FolderError: another process holds it, or it cannot be written.
    """
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
        write_text(folder / HOLDER, json.dumps(_myself()))
    except Timeout as held:
        raise FolderError(
            f"{folder}: another command is writing into it ({_told(folder / HOLDER)}). Wait until it has ended, stop "
            "it, or give another --out."
        ) from held
    except OSError as problem:
        lock.release()
        raise FolderError(
            f"{folder}: cannot be written ({problem.strerror}); give a folder that can be with --out."
        ) from problem
    try:
        yield
    finally:
        with suppress(OSError):  # gone, or read-only by now: the lock itself ends all the same
            (folder / HOLDER).unlink(missing_ok=True)
            (folder / LOCK).unlink(missing_ok=True)  # before it is released: nobody can hold it yet
            folder.rmdir()
        lock.release()


@contextmanager
def no_room_said(folder: Path) -> Iterator[None]:
    """Say of a full disk, or one that no longer takes writes, which folder it holds and what to do.

    Raises:
        FolderError: the block met one.
    """
    try:
        yield
    except OSError as problem:
        if problem.errno not in NO_ROOM:
            raise
        raise FolderError(
            f"{problem.filename or folder}: cannot be written ({problem.strerror}). What was written whole into "
            f"{folder} is kept: make room there, then give the same command again, train's with --resume."
        ) from problem


def is_trace(path: Path) -> bool:
    """Whether a path in a locked folder is the lock's, or what a killed process had not yet written whole."""
    return path.name in (LOCK, HOLDER) or (path.name.startswith(".") and path.name.endswith(".part"))


def _myself() -> dict[str, object]:
    return {"host": platform.node(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}


def _told(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['process']} on {holder['host']}, since {holder['since']}"
    except (OSError, ValueError, KeyError):
        return "which one is not known"
