"""Frozen, slotted, keyword-only records without the price of ``dataclasses``.

A derived class states its fields as annotations, with defaults where there are
any; the type checker sees an ordinary frozen dataclass.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, dataclass_transform
else:

    def dataclass_transform(**_flags):
        return lambda cls: cls


@dataclass_transform(kw_only_default=True, frozen_default=True)
class RecordType(type):
    """Turn the annotations of a class body into slots."""

    _defaults: dict[str, Any]
    _setters: tuple[tuple[str, Any], ...]

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> RecordType:
        fields = tuple(namespace.get("__annotations__", ()))
        defaults = {field: namespace.pop(field) for field in fields if field in namespace}
        namespace["__slots__"] = fields
        made = super().__new__(cls, name, bases, namespace)
        made._defaults = defaults
        # The slots' own setters: the way round the frozen __setattr__.
        made._setters = tuple((field, getattr(made, field).__set__) for field in fields)
        return made


class Record(metaclass=RecordType):
    """The base of every record; a record is not derived from another one."""

    def __init__(self, **values: Any) -> None:
        cls = type(self)
        defaults = cls._defaults
        for field, put in cls._setters:
            if field in values:
                put(self, values.pop(field))
            elif field in defaults:
                put(self, defaults[field])
            else:
                raise TypeError(f"{cls.__name__}: missing field {field!r}")
        if values:
            raise TypeError(f"{cls.__name__}: no field {next(iter(values))!r}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot delete {name!r}")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and fields_of(self) == fields_of(other)

    def __hash__(self) -> int:
        return hash((type(self), *fields_of(self).values()))

    def __repr__(self) -> str:
        pairs = ", ".join(f"{field}={value!r}" for field, value in fields_of(self).items())
        return f"{type(self).__name__}({pairs})"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), fields_of(self))


def fields_of(record: Record) -> dict[str, Any]:
    """The record's fields and values, in their order."""
    return {field: getattr(record, field) for field, _ in type(record)._setters}


def _rebuild(cls: type[Record], values: dict[str, Any]) -> Record:
    return cls(**values)
