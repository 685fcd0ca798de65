"""Frozen, slotted, keyword-only records, at the price of one small module.

``dataclasses`` costs two interpreter starts to import; ``run`` must not pay it.
A class derived from `Record` states its fields as annotations, with defaults
where there are any, and gets a keyword-only constructor, equality, a hash, a
readable ``repr`` and `replace`.  The type checker sees an ordinary frozen
dataclass.  Fields of a base record come first.

Out of scope: positional construction, mutable defaults, conversion, validation.
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

    _fields: tuple[str, ...]
    _defaults: dict[str, Any]
    _setters: tuple[tuple[str, Any], ...]

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> RecordType:
        own = [
            field
            for field, kind in namespace.get("__annotations__", {}).items()
            if not str(kind).startswith("ClassVar")
        ]
        defaults = {field: namespace.pop(field) for field in own if field in namespace}
        namespace["__slots__"] = tuple(own)
        made = super().__new__(cls, name, bases, namespace)
        fields: list[str] = []
        inherited: dict[str, Any] = {}
        for base in bases:
            fields += getattr(base, "_fields", ())
            inherited |= getattr(base, "_defaults", {})
        made._fields = (*fields, *own)
        made._defaults = inherited | defaults
        # The slots' own setters: the way round the frozen __setattr__.
        made._setters = tuple((field, getattr(made, field).__set__) for field in made._fields)
        return made


class Record(metaclass=RecordType):
    """The base of every record."""

    def __init__(self, **values: Any) -> None:
        cls = type(self)
        whole = cls._defaults | values
        field = ""
        try:
            for field, put in cls._setters:
                put(self, whole[field])
        except KeyError:
            raise TypeError(f"{cls.__name__}: missing field {field!r}") from None
        if len(whole) != len(cls._setters):
            unknown = next(name for name in whole if name not in cls._fields)
            raise TypeError(f"{cls.__name__}: no field {unknown!r}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot delete {name!r}")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and _values(self) == _values(other)

    def __hash__(self) -> int:
        return hash((type(self), _values(self)))

    def __repr__(self) -> str:
        pairs = ", ".join(f"{field}={getattr(self, field)!r}" for field in type(self)._fields)
        return f"{type(self).__name__}({pairs})"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), fields_of(self))


def fields_of(record: Record) -> dict[str, Any]:
    """The record's fields and values, in their order; the values are not copied."""
    return {field: getattr(record, field) for field in type(record)._fields}


if TYPE_CHECKING:
    from typing import TypeVar

    R = TypeVar("R", bound=Record)


def replace(record: R, **changes: Any) -> R:
    """A copy of ``record`` with some fields changed."""
    return type(record)(**(fields_of(record) | changes))


def _values(record: Record) -> tuple[object, ...]:
    return tuple(getattr(record, field) for field in type(record)._fields)


def _rebuild(cls: type[R], values: dict[str, Any]) -> R:
    return cls(**values)
