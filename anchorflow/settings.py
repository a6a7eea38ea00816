"""Settings: a field declares its meaning where it is defined; a YAML node becomes a validated object.

One YAML node is one constructor call: the fields of a `configurable` class are the node's schema, with their types and
defaults. Each field has a kind, from which a run's directory, its identity and the columns of a report follow.

Neither this module nor any class of the configuration imports torch, so a mistake is reported before anything slow loads.
"""

import dataclasses
import functools
import hashlib
import importlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated_dataclass
from typing_extensions import dataclass_transform, get_protocol_members

from anchorflow.errors import UserError, did_you_mean

T = TypeVar("T")
Kind = Literal["number", "source", "run", "shown"]
"""What a setting does.

`number`: changes a number of the result. It is part of the run's identity and a column of reports.
`source`: where content is found. The identity holds the hash of that content instead.
`run`: where and how fast a run computes. `shown`: what a run keeps and shows. Neither changes a run's identity or directory.
"""
KINDS: tuple[Kind, ...] = get_args(Kind)


class SettingError(UserError, ValueError):
    """An unknown setting, or a value that is not allowed."""


def setting(*, default: Any = MISSING, kind: Kind) -> Any:
    """A dataclass field of this kind. A field without it is a `number`."""
    return field(default=default, metadata={"kind": kind})


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(setting, field))
def configurable(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass with keyword arguments, checked when it is constructed.

    The constructor raises SettingError for an unknown setting, a wrong type, and a ValueError of `__post_init__`, with the
    same messages as for a node of the configuration.
    """
    made: Any = validated_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))(cls)
    checked = made.__init__

    @functools.wraps(checked)
    def construct(self: Any, **arguments: Any) -> None:
        _refuse_unknown(type(self), arguments, "")
        try:
            checked(self, **arguments)
        except ValidationError as error:
            raise _refusal(error, "") from error
        _refuse_disguised(self, arguments, "")

    made.__init__ = construct
    return made


def build(node: Mapping[str, Any], where: str, default: type | None = None, like: type | None = None) -> Any:
    """Make the object that `node` describes: `_target_` names its class, the rest are its arguments.

    Args:
        node: a mapping of JSON types.
        where: the node's place in the configuration ("experiment"); every message begins with it.
        default: the class of a node without `_target_`.
        like: a protocol whose members the class must have.

    Raises:
        SettingError: the target or a key is unknown, a value has the wrong type, or the class refuses it.
    """
    arguments = {str(key): value for key, value in node.items() if key != "_target_"}
    target = default or locate(node.get("_target_"), where)
    if like is not None:
        _refuse_lacking(target, like, where, node.get("_target_"))
    _refuse_unknown(target, arguments, where)
    try:
        built = _adapter(target).validate_python(arguments)
    except ValidationError as error:
        raise _refusal(error, where) from error
    _refuse_disguised(built, arguments, where)
    return built


def locate(path: Any, where: str) -> type:
    """The class at an import path. SettingError if it cannot be imported or is not `configurable`."""
    if not isinstance(path, str) or "." not in path:
        raise SettingError(f"{where}._target_ is {path!r}; allowed: the import path of a class, MODULE.CLASS.")
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # the module may be a user's own and fail in any way
        kind = "" if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: "
        raise SettingError(f"{where}._target_ is {path!r}, which cannot be imported ({kind}{error}).") from error
    # Not is_dataclass: it is also true of an undecorated subclass, whose own fields were never processed.
    if not (isinstance(found, type) and "__dataclass_fields__" in vars(found)):
        raise SettingError(
            f"{where}._target_ is {path!r}; allowed: a class with @configurable (anchorflow.settings) above it."
        )
    return found


def target_of(cls: type) -> str:
    """The import path of a class as a configuration writes it; for classes of this package, that of the room's `__init__`."""
    module = cls.__module__.split(".")
    return ".".join([*(module[:2] if module[0] == __package__ else module), cls.__qualname__])


def defaults_of(cls: type) -> dict[str, Any]:
    """The settings that have a default, by name, as JSON types."""
    found = {}
    for each in fields(cls):
        if each.default is not MISSING:
            found[each.name] = _plain(each.default)
        elif each.default_factory is not MISSING:
            found[each.name] = _plain(each.default_factory())
    return found


def values(node: Any, *kinds: Kind) -> dict[str, Any]:
    """The settings of these kinds (default: all) by name, as JSON types.

    Settings that `node.unused()` names are left out: they have no effect, given the others.
    """
    unused = node.unused() if hasattr(node, "unused") else ()
    return {
        each.name: _plain(getattr(node, each.name))
        for each in fields(node)
        if kind_of(each) in (kinds or KINDS) and each.name not in unused
    }


def kind_of(each: "dataclasses.Field[Any]") -> Kind:
    """The kind of a field; `number` if it declares none."""
    kind: Kind = each.metadata.get("kind", "number")
    return kind


def fingerprint(node: Any) -> dict[str, Any]:
    """Everything about a node that can change a number: its class, its `number` settings, its `version`.

    `node.content()` replaces the `source` settings: it identifies the content that they point to.
    """
    found = {"_target_": target_of(type(node)), **values(node, "number")}
    if hasattr(node, "version"):
        found["version"] = node.version
    return found | (dict(node.content()) if hasattr(node, "content") else {})


FROM_ENVIRONMENT = "${oc.env:"
"""How a configuration refers to an environment variable. Such a value may be secret, so it is recorded as written."""


def as_written(found: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """These settings, but as written in `node` where that refers to an environment variable."""
    return {key: node[key] if FROM_ENVIRONMENT in repr(node.get(key)) else value for key, value in found.items()}


def to_node(node: Any) -> dict[str, Any]:
    """The configuration's node that describes this object: the inverse of `build`."""
    return {"_target_": target_of(type(node)), **{each.name: _plain(getattr(node, each.name)) for each in fields(node)}}


def require(config: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Raise SettingError if the configuration lacks one of these keys."""
    for key in keys:
        if config.get(key) is None:
            raise SettingError(f"{key} is missing; every run needs it ({key}=..., not ~{key}).")


def digest(value: Any) -> str:
    """A hash (16 hexadecimal digits) of a value of JSON types; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(of_key) for key, of_key in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


@cache
def _adapter(target: type) -> Any:
    return TypeAdapter(target)


def _refuse_unknown(target: type, arguments: Mapping[str, Any], where: str) -> None:
    known = [each.name for each in fields(target)]
    for key in arguments:
        if key not in known:
            raise SettingError(
                f"{_join(where, key)} is not a setting of {target.__name__}; allowed: {', '.join(known)}."
                f"{did_you_mean(key, known)}"
            )


def _refuse_disguised(built: Any, arguments: Mapping[str, Any], where: str) -> None:
    """Refuse 1.0 and true for a whole number: pydantic accepts them as 1."""
    for key, value in arguments.items():
        if isinstance(value, bool) and type(getattr(built, key)) is float:
            raise SettingError(f"{_join(where, key)} is {value!r}; allowed: a number.")
        if isinstance(value, bool | float) and type(getattr(built, key)) is int:
            raise SettingError(
                f"{_join(where, key)} is {value!r}; allowed: a whole number, written as one ({int(value)})."
            )


@cache
def _members(of: type) -> list[str]:
    return sorted(get_protocol_members(of))


def _refuse_lacking(target: type, like: type, where: str, path: Any) -> None:
    has = {*dir(target), *(each.name for each in fields(target))}
    members = _members(like)
    if missing := [name for name in members if name not in has]:
        raise SettingError(
            f"{where}._target_ is {path!r}, which lacks {', '.join(missing)}; needed: {', '.join(members)} (see "
            f"{like.__module__}.{like.__name__})."
        )


MISSING_ONE = ("missing", "missing_keyword_only_argument", "missing_argument")
"""Pydantic's error types for a missing argument."""


def _refusal(error: ValidationError, where: str) -> SettingError:
    return SettingError("\n".join(_explain(problem, where) for problem in _of_one_value(error.errors())))


def _of_one_value(problems: Sequence[Any]) -> list[dict[str, Any]]:
    """Merge the problems of a value that fits none of several types into one, with the expectations joined by "or"."""
    found: dict[Any, dict[str, Any]] = {}
    for problem in problems:
        place = problem["loc"]
        alike = [p for p in problems if p["loc"][:-1] == place[:-1] and p["input"] is problem["input"]]
        several = (
            len(alike) > 1 and len(place) > 1 and isinstance(place[-1], str) and problem["type"] not in MISSING_ONE
        )
        key = place[:-1] if several else place
        wanted = str(problem["msg"])
        if key in found:
            found[key]["msg"] += ", or " + wanted.removeprefix("Input should be ")
        else:
            found[key] = {**problem, "loc": key, "msg": wanted}
    return list(found.values())


def _explain(problem: Mapping[str, Any], where: str) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ").rstrip(".")
    place = [str(part) for part in problem["loc"]]
    if not place:  # from the class's own check, whose message names the setting
        return f"{where}: {message}." if where else f"{message}."
    if problem["type"] in MISSING_ONE:
        return f"{_join(where, '.'.join(place))} is missing."
    return f"{_join(where, '.'.join(place))} is {problem['input']!r}: {message[0].lower()}{message[1:]}."


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
