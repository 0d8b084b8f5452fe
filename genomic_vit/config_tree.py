"""A run's settings from a nested mapping, as a YAML file holds them: strict about keys, exact about types."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import typing

from genomic_vit.config import ConfigError, RunConfig

NEEDED = {
    int: "a whole number",
    float: "a number with a dot for decimals",
    bool: "true or false",
    str: "a text in quotes",
}


def check_keys(tree: object, kind: type, where: str, path: str = "") -> None:
    """Raise ConfigError at the first key of a nested mapping that dataclass `kind` does not have.

    Args:
        tree: what a YAML file held.
        kind: the dataclass it is meant for.
        where: the file, for the message.
        path: dotted path of `tree` inside the file.
    """
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{where}: {path or 'the file'} holds {type(tree).__name__}, a mapping of settings was needed"
        )
    hints = typing.get_type_hints(kind)
    known = [entry.name for entry in dataclasses.fields(kind)]
    for key, value in tree.items():
        dotted = f"{path}.{key}" if path else str(key)
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f"did you mean {(path + '.' if path else '') + near[0]}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"{where}: unknown setting {dotted}; {hint}")
        if dataclasses.is_dataclass(hints[key]):
            check_keys(value, hints[key], where, dotted)
        elif (rule := _rule_kind(hints[key])) is not None:
            if not isinstance(value, dict):
                raise ConfigError(f"{where}: {dotted} holds {value!r}; a mapping of names to rules was needed")
            for name, entry in value.items():
                check_keys(entry, rule, where, f"{dotted}.{name}")
    lacking = [
        entry.name for entry in dataclasses.fields(kind)
        if entry.name not in tree and entry.default is dataclasses.MISSING is entry.default_factory
    ]  # fmt: skip
    if lacking:
        raise ConfigError(f"{where}: {path} lacks {', '.join(lacking)}; add it")


def _rule_kind(hint: object) -> type | None:
    """The dataclass that a setting of type dict[str, dataclass] holds, None for any other."""
    inner = typing.get_args(hint)[1:] if typing.get_origin(hint) is dict else ()
    return next((kind for kind in inner if dataclasses.is_dataclass(kind)), None)


def from_tree(tree: object, where: str) -> RunConfig:
    """RunConfig of a nested mapping as a config file holds it; settings not given keep their defaults.

    Raises:
        ConfigError: unknown or impossible settings.
    """
    check_keys(tree, RunConfig, where)
    return _build(RunConfig, tree, f"{where}: ")


def _build(kind: type, tree: dict, place: str) -> object:
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in tree.items():
        if dataclasses.is_dataclass(hints[key]):
            value = _build(hints[key], value, f"{place}{key}.")
        elif (rule := _rule_kind(hints[key])) is not None:
            value = {name: _build(rule, entry, f"{place}{key}.{name}.") for name, entry in value.items()}
        else:
            value = _fitted(value, hints[key], f"{place}{key}")
        values[key] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def _fitted(value: object, hint: object, name: str) -> object:
    """A value as YAML gives it, turned to its setting's type where nothing is lost; YAML takes 2e-3 for a text."""
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{name} is {value!r}; a list is needed")
        return [_fitted(entry, typing.get_args(hint)[0], name) for entry in value]
    kinds = typing.get_args(hint) if type(None) in typing.get_args(hint) else (hint,)
    kind = kinds[0]
    if kind not in NEEDED or (value is None and len(kinds) > 1):
        return value  # the classes themselves judge choices and rules
    if type(value) in {float: (float, int)}.get(kind, (kind,)):
        return value
    if type(value) in {float: (str,), str: (int, float)}.get(kind, ()):
        with contextlib.suppress(ValueError):
            return kind(value)
    raise ConfigError(f"{name} is {value!r}; {NEEDED[kind]} is needed")
