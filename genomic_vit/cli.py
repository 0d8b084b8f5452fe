"""What all commands share: how they parse, fail and report. Light, so that --help is quick."""

from __future__ import annotations

import argparse
import atexit
import difflib
import logging
import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from genomic_vit.config import ConfigError, RunConfig, UserError
from genomic_vit.config_tree import NEEDED, check_keys, from_tree

INTERRUPTED, REFUSED = 130, 2
SHORT = {  # settings that have a spelling of their own on the command line
    "--on-gap": "--scan.on_gap",
    "--frame": "--lesion.frame",
    "--roi": "--lesion.roi",
    "--point-mm": "--lesion.point_mm",
    "--field": "--lesion.field",
    "--lesions": "--lesion.lesions",
    "--precision": "--training.precision",
    "--key": "--labels.key",
    "--min-cases": "--labels.min_cases",
}
FLAGS = {  # the same for those that are given without a value
    "--compile": "--training.compile=true",
    "--allow-outcome-columns": "--labels.allow_outcome_columns=true",
}
IN_RUN = "--run."  # where a comparison has train's settings; messages that all commands share name them as train does


def run_command(command: Callable[[], None]) -> int:
    """Run a command; its exit code: 0, 2 with a message where the user's input is refused, 130 on Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for handler in logging.getLogger().handlers:  # on the handler: Lightning sets its loggers' levels when imported
        handler.addFilter(_worth_saying)
    try:
        command()
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    except OSError as problem:
        print(f"error: {problem}. Check that the place exists, is writable and has room.", file=sys.stderr)
        return REFUSED
    return 0


def leave(code: int) -> NoReturn:
    """End the process; one that trained with others ends before Python takes itself apart.

    A thread of gloo may still be freeing what it last summed, and one that frees a tensor while Python goes down aborts
    the process (torch 2.13; DDP and FSDP keep those threads alive after `destroy_process_group`). Threads are told and
    waited for, what is registered at exit is done, in Python's order, and what was written is flushed.
    """
    distributed = sys.modules.get("torch.distributed")  # a process that never imported it trained with nobody
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        sys.exit(code)
    threading._shutdown()  # ends loky's workers, for which multiprocessing waits at exit: untold they idle on for 300 s
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _worth_saying(record: logging.LogRecord) -> bool:
    return record.name.startswith("genomic_vit") or record.levelno >= logging.WARNING


def run_config_parser(usage: str, description: str, kind: type = RunConfig, command: str = "train"):
    """A parser of every setting of a config and --config; options override --config, which overrides the defaults."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=f"python -m genomic_vit.{command}", usage=usage, description=description)
    parser.add_argument("--config", action="config", help="YAML file of the settings below.")
    parser.add_class_arguments(kind, as_group=False)
    told = parser.error
    parser.error = lambda message, ex=None: told(_in_words(message), ex)
    return parser


def _in_words(message: str) -> str:
    """What jsonargparse says of a value of the wrong type, as a config file's is told; other messages as they are."""
    found = re.search(r'Parser key "(.+?)":\s+Expected a (.+)\. Got value: (.*)', message)
    if found is None:
        return message
    setting, wanted, value = found.groups()
    kinds = {str(kind): words for kind, words in NEEDED.items()} | {str(dict): "a mapping in a config file"}
    if choices := re.findall(r"'([^']*)'", wanted) if "Literal[" in wanted else ():
        return f"--{setting} is {value}; one of {', '.join(choices)} is needed"
    return f"--{setting} is {value}; {kinds.get(wanted, wanted)} is needed"


def parse(parser: argparse.ArgumentParser, argv: list[str], kind: type = RunConfig) -> argparse.Namespace:
    """Parse a command line; `kind` is the config that a --config file of it holds.

    Raises:
        ConfigError: an unknown option or config key, with the nearest known one.
        SystemExit: 0 after --help, 2 where a value cannot be parsed.
    """
    known = [option for action in parser._actions for option in action.option_strings]
    argv = [_long(word, known) for word in _whole_points(argv)]
    for word in argv:
        option = word.split("=")[0]
        if option.startswith("--") and option not in known:
            near = difflib.get_close_matches(option, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else "see --help"
            raise ConfigError(f"unknown option {option}; {hint}")
    _check_config_file(argv, kind)
    return parser.parse_args(argv)


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Options that change, for one command, how a run's config reads scans and lesions."""
    as_in_run = "(default: as in the run)"
    parser.add_argument(
        "--on-gap",
        choices=("error", "resample"),
        help=f"missing or uneven DICOM slices: refuse the series, or interpolate {as_in_run}",
    )
    parser.add_argument("--frame", choices=("lps", "ras"), help=f"frame of points and boxes in mm {as_in_run}")
    parser.add_argument("--roi", help=f"number, name or pattern of the ROI, segment or label meant {as_in_run}")
    parser.add_argument("--point-mm", type=float, help=f"diameter of the ball drawn around a point, mm {as_in_run}")
    parser.add_argument("--field", choices=("lesion", "lung"), help=f"look at a lesion, or at whole lungs {as_in_run}")
    parser.add_argument("--lesions", choices=("largest", "each"), help=f"of several in one source {as_in_run}")


def reading_options(options: argparse.Namespace) -> dict[str, object]:
    """Those of `add_reading_options` that were given."""
    names = ("on_gap", "frame", "roi", "point_mm", "field", "lesions")
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _whole_points(argv: list[str]) -> list[str]:
    """`--lesion -12,30,-140` as `--lesion=-12,30,-140`: argparse takes a minus for the next option."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] == "--lesion" and word[:1] == "-" and word[1:2] in "0123456789.":
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def _long(word: str, known: list[str]) -> str:
    """An option in the spelling that the parser knows; --seed is left alone where --seeds could be meant."""
    if word.partition("=")[0] in known or not word.startswith("--"):
        return word
    option, equals, value = FLAGS.get(word, word).partition("=")
    long = SHORT.get(option, option)
    for name in (long, long.replace("--", IN_RUN, 1)):
        if name in known and f"{option}s" not in known:
            return f"{name}{equals}{value}"
    return word


def _check_config_file(argv: list[str], kind: type) -> None:
    """Name an unknown key of the --config file before the parser meets it."""
    import yaml

    for place, word in enumerate(argv):
        name = word.removeprefix("--config=") if word.startswith("--config=") else None
        if word == "--config" and place + 1 < len(argv):
            name = argv[place + 1]
        if name is None:
            continue
        if not Path(name).is_file():
            raise ConfigError(f"{name}: no such config file; check the path given with --config.")
        try:
            tree = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as cause:
            raise ConfigError(f"{name}: is not YAML ({' '.join(str(cause).split())})") from cause
        if tree is None:
            raise ConfigError(f"{name}: holds no settings; write some, or leave the file out.")
        check_keys(tree, kind, name)


def read_config_file(name: str | None) -> RunConfig:
    """The RunConfig of a YAML file, or the defaults where none is named.

    Raises:
        ConfigError: there is no such file, it is not YAML, or holds unknown or impossible settings.
    """
    import yaml

    if name is None:
        return RunConfig()
    if not Path(name).is_file():
        raise ConfigError(f"{name}: no such config file; check the path given with --config.")
    try:
        return from_tree(yaml.safe_load(Path(name).read_text(encoding="utf-8")) or {}, name)
    except (yaml.YAMLError, UnicodeDecodeError) as cause:
        raise ConfigError(f"{name}: is not YAML ({' '.join(str(cause).split())})") from cause


def progress_bar(label: str):
    """A context manager that gives a progress(done, total) function drawing on the terminal."""
    from contextlib import contextmanager

    @contextmanager
    def bar():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(label, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    return bar()
