"""Go templates, as much of them as ``--format`` needs, with Go's error texts.

Text, ``{{.A.B}}``, ``{{range}}``, ``{{if}}``, ``{{with}}``, ``{{else}}``,
``{{end}}``, variables, pipes, parentheses, trim marks, comments, and docker's
and Go's functions.  Values are what JSON has, and `View`s, whose fields are
computed when they are asked for.

Out of scope: nested templates (``define``, ``block``), ``break``, ``continue``.
"""

from __future__ import annotations

from .output import json as escaped_json
from .output import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, TypeAlias

    Node: TypeAlias = tuple[Any, ...]


class TemplateError(Exception):
    """Not a template, or one that does not fit the data; the text is Go's."""


class View:
    """What a template sees as a struct: named fields, computed when asked for."""

    type_name = "interface {}"
    names: tuple[str, ...] = ()

    def field(self, name: str) -> object:
        """The value of a field; a callable is a method.  `KeyError` when there is none."""
        raise KeyError(name)

    def document(self) -> dict[str, object]:
        """Every field, sorted, as docker's ``{{json .}}`` has it."""
        return {name: self.field(name) for name in sorted(self.names)}


class Template:
    """A parsed template.  Raises `TemplateError` when it cannot be parsed."""

    def __init__(self, text: str) -> None:
        self._nodes = _Parser(text).parse()

    def render(self, data: object) -> str:
        """The text for ``data``; `TemplateError` when they do not fit."""
        run = _Run(data)
        run.all(self._nodes, data)
        return "".join(run.parts)

    def fields(self) -> set[str]:
        """The names of every field that is mentioned, first parts only; ``.`` for the whole."""
        found: set[str] = set()
        _collect(self._nodes, found)
        return found


def _collect(node: object, found: set[str]) -> None:
    if isinstance(node, tuple) and node and isinstance(node[0], str):
        if node[0] == "field":
            found.add(node[2][0])
        elif node[0] == "dot":
            found.add(".")
    if isinstance(node, (tuple, list)):
        for part in node:
            _collect(part, found)


def show(value: object) -> str:
    """A value as Go prints it."""
    if value is None:
        return "<nil>"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, dict):
        pairs = (f"{key}:{show(value[key])}" for key in sorted(value))
        return f"map[{' '.join(pairs)}]"
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(map(show, value))}]"
    if isinstance(value, View):
        return f"{{{' '.join(show(item) for item in value.document().values())}}}"
    if isinstance(value, float) and value == int(value) and abs(value) < 1e21:
        return str(int(value))
    return str(value)


# -- reading

_OPEN, _CLOSE = "{{", "}}"
_KEYWORDS = ("if", "range", "with", "else", "end")


class _Token:
    __slots__ = ("at", "kind", "spaced", "value")

    def __init__(self, kind: str, value: Any, at: int, *, spaced: bool) -> None:
        self.kind, self.value, self.at, self.spaced = kind, value, at, spaced


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._lex())
        self._at = 0

    def parse(self) -> list[Node]:
        nodes, end = self._list()
        if end:
            raise self._error(f"unexpected {{{{{end}}}}}")
        return nodes

    # The lexer: texts and actions.

    def _lex(self) -> Iterator[_Token]:
        text, at, trim = self._text, 0, False
        while True:
            start = text.find(_OPEN, at)
            literal = text[at:] if start < 0 else text[at:start]
            if trim:
                literal = literal.lstrip(" \t\r\n")
            if start < 0:
                if literal:
                    yield _Token("text", literal, at, spaced=False)
                return
            inner = start + 2
            if text[inner : inner + 1] == "-" and text[inner + 1 : inner + 2] in (" ", "\t", "\n"):
                literal = literal.rstrip(" \t\r\n")
                inner += 2
            if literal:
                yield _Token("text", literal, at, spaced=False)
            if text.startswith("/*", inner):
                at, trim = self._comment(inner)
                continue
            yield _Token("open", "", start, spaced=False)
            tokens, at = self._lex_action(inner)
            yield from tokens
            trim = text.startswith("-", at - 3)
            yield _Token("close", "", at, spaced=False)

    def _comment(self, inner: int) -> tuple[int, bool]:
        end = self._text.find("*/", inner)
        if end < 0:
            raise self._error("unclosed comment", inner)
        rest = self._text[end + 2 :]
        if rest.startswith("}}"):
            return end + 4, False
        if rest.startswith(" -}}"):
            return end + 6, True
        raise self._error("comment ends before closing delimiter", inner)

    def _lex_action(self, at: int) -> tuple[list[_Token], int]:
        text, spaced, depth = self._text, False, 0
        found: list[_Token] = []
        while True:
            if text.startswith(_CLOSE, at):
                if depth:
                    raise self._error("unclosed left paren", at)
                return found, at + 2
            character = text[at : at + 1]
            if not character or (character == "\n" and not text[at:].strip()):
                raise self._error("unclosed action", at)
            if character in " \t\r\n":
                if text.startswith("-}}", at + 1):
                    at += 2
                    continue
                at, spaced = at + 1, True
                continue
            kind, value, end = self._lex_one(at, character)
            depth += (kind == "(") - (kind == ")")
            if depth < 0:
                raise self._error("unexpected right paren", at)
            found.append(_Token(kind, value, at, spaced=spaced))
            at, spaced = end, False

    def _lex_one(self, at: int, character: str) -> tuple[str, Any, int]:
        text = self._text
        if character in "|(),":
            return character, character, at + 1
        if text.startswith(":=", at) or character == "=":
            end = at + (2 if character == ":" else 1)
            return ":=", character, end
        if character == '"':
            return self._lex_quoted(at)
        if character == "`":
            end = text.find("`", at + 1)
            if end < 0:
                raise self._error("unterminated raw quoted string", at)
            return "value", text[at + 1 : end], end + 1
        if character.isdigit() or (character in "+-" and text[at + 1 : at + 2].isdigit()):
            end = at + 1
            while end < len(text) and (text[end].isalnum() or text[end] == "."):
                end += 1
            return "value", self._number(text[at:end], at), end
        if character in ".$" or character == "_" or character.isalpha():
            end = at + 1
            while end < len(text) and (text[end].isalnum() or text[end] == "_"):
                end += 1
            word = text[at:end]
            kind = {".": "field", "$": "variable"}.get(character, "word")
            if word == ".":
                kind = "dot"
            return kind, word, end
        shown = f"U+{ord(character):04X} '{character}'"
        raise self._error(f"unexpected bad character {shown} in command", at)

    def _lex_quoted(self, at: int) -> tuple[str, str, int]:
        made: list[str] = []
        end = at + 1
        escapes = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "'": "'"}
        while True:
            character = self._text[end : end + 1]
            if character in ("", "\n"):
                raise self._error("unterminated quoted string", at)
            if character == '"':
                return "value", "".join(made), end + 1
            if character == "\\":
                end += 1
                character = escapes.get(self._text[end : end + 1], "")
                if not character:
                    raise self._error("invalid syntax", at)
            made.append(character)
            end += 1

    def _number(self, text: str, at: int) -> int | float:
        try:
            return float(text) if "." in text else int(text, 0)
        except ValueError:
            raise self._error(f"bad number syntax: {quote(text)}", at) from None

    # The parser: a list of nodes up to an {{end}} or {{else}}.

    def _list(self) -> tuple[list[Node], str]:
        nodes: list[Node] = []
        while self._at < len(self._tokens):
            token = self._take()
            if token.kind == "text":
                nodes.append(("text", token.at, token.value))
                continue
            word = self._peek()
            if word is not None and word.kind == "word" and word.value in _KEYWORDS:
                self._take()
                if word.value == "end":
                    self._close()
                    return nodes, "end"
                if word.value == "else":
                    return nodes, "else"
                nodes.append(self._block(word))
            else:
                nodes.append(("action", token.at, *self._assignment()))
                self._close()
        return nodes, ""

    def _block(self, word: _Token) -> Node:
        names, pipe = self._assignment()
        self._close()
        body, end = self._list()
        other: list[Node] = []
        if end == "else":
            following = self._peek()
            if following is not None and following.kind == "word" and following.value == word.value:
                self._take()
                return (word.value, word.at, names, pipe, body, [self._block(following)])
            self._close()
            other, end = self._list()
        if end != "end":
            raise self._error("unexpected EOF")
        return (word.value, word.at, names, pipe, body, other)

    def _assignment(self) -> tuple[tuple[str, ...], Node]:
        names: list[str] = []
        start = self._at
        while (token := self._peek()) is not None and token.kind == "variable":
            names.append(self._take().value)
            follows = self._peek()
            if follows is not None and follows.kind == ",":
                self._take()
                continue
            if follows is not None and follows.kind == ":=":
                self._take()
                return tuple(names), self._pipe()
            break
        self._at = start
        return (), self._pipe()

    def _pipe(self) -> Node:
        first = self._peek()
        commands = [self._command()]
        while (token := self._peek()) is not None and token.kind == "|":
            self._take()
            commands.append(self._command())
        return ("pipe", first.at if first else 0, commands)

    def _command(self) -> Node:
        operands: list[Node] = []
        first = self._peek()
        while (token := self._peek()) is not None and token.kind not in ("close", "|", ")"):
            operands.append(self._operand())
        if not operands:
            raise self._error("missing value for command")
        return ("command", first.at if first else 0, operands)

    def _operand(self) -> Node:
        token = self._take()
        node: Node
        if token.kind == "(":
            node = self._pipe()
            closing = self._take()
            if closing.kind != ")":
                raise self._error("unclosed left paren", token.at)
        elif token.kind == "word":
            node = self._word(token)
        elif token.kind == "field":
            return ("field", token.at, [token.value[1:], *self._chain()])
        elif token.kind in ("dot", "value", "variable"):
            node = (token.kind, token.at, token.value)
        else:
            raise self._error(f"unexpected {quote(str(token.value))} in operand", token.at)
        chain = self._chain()
        return ("chain", token.at, node, chain) if chain else node

    def _word(self, token: _Token) -> Node:
        if token.value in ("true", "false", "nil"):
            return ("value", token.at, {"true": True, "false": False, "nil": None}[token.value])
        if token.value not in FUNCTIONS:
            raise self._error(f"function {quote(token.value)} not defined", token.at)
        return ("function", token.at, token.value)

    def _chain(self) -> list[str]:
        names = []
        while (token := self._peek()) is not None and token.kind == "field" and not token.spaced:
            names.append(self._take().value[1:])
        return names

    def _peek(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self) -> _Token:
        if self._at >= len(self._tokens):
            raise self._error("unexpected EOF")
        self._at += 1
        return self._tokens[self._at - 1]

    def _close(self) -> None:
        token = self._take()
        if token.kind != "close":
            raise self._error(f"unexpected {quote(str(token.value))} in operand", token.at)

    def _error(self, problem: str, at: int | None = None) -> TemplateError:
        place = len(self._text) if at is None else at
        return TemplateError(f"template: :{self._text.count(chr(10), 0, place) + 1}: {problem}")


# -- carrying out


class _Run:
    def __init__(self, data: object) -> None:
        self.parts: list[str] = []
        self._variables: list[tuple[str, object]] = [("$", data)]

    def all(self, nodes: Sequence[Node], dot: object) -> None:
        mark = len(self._variables)
        for node in nodes:
            self._one(node, dot)
        del self._variables[mark:]

    def _one(self, node: Node, dot: object) -> None:
        kind = node[0]
        if kind == "text":
            self.parts.append(node[2])
        elif kind == "action":
            value = self._pipe(node[3], dot)
            if node[2]:
                self._variables.append((node[2][0], value))
            else:
                self.parts.append("<no value>" if value is _MISSING else show(value))
        elif kind == "range":
            self._range(node, dot)
        else:
            self._branch(node, dot)

    def _branch(self, node: Node, dot: object) -> None:
        kind, _, names, pipe, body, other = node
        mark = len(self._variables)
        value = self._pipe(pipe, dot)
        self._variables += [(name, value) for name in names[:1]]
        if _truth(value):
            self.all(body, value if kind == "with" else dot)
        else:
            self.all(other, dot)
        del self._variables[mark:]

    def _range(self, node: Node, dot: object) -> None:
        _, at, names, pipe, body, other = node
        value = self._pipe(pipe, dot)
        if isinstance(value, dict):
            pairs: list[tuple[object, object]] = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, (list, tuple)):
            pairs = list(enumerate(value))
        elif value is None or value is _MISSING:
            pairs = []
        else:
            raise _failure(at, pipe, f"range can't iterate over {show(value)}")
        for key, item in pairs:
            mark = len(self._variables)
            if len(names) == 1:
                self._variables.append((names[0], item))
            elif names:
                self._variables += [(names[0], key), (names[1], item)]
            self.all(body, item)
            del self._variables[mark:]
        if not pairs:
            self.all(other, dot)

    def _pipe(self, pipe: Node, dot: object) -> Any:
        value: object = _NOTHING
        for command in pipe[2]:
            value = self._command(command, dot, value)
        return value

    def _command(self, command: Node, dot: object, last: object) -> object:
        first, *rest = command[2]
        arguments = [self._value(operand, dot) for operand in rest]
        if last is not _NOTHING:
            arguments.append(last)
        if first[0] == "function":
            try:
                return FUNCTIONS[first[2]](*arguments)
            except TemplateError as error:
                name = first[2]
                raise _failure(first[1], command, f"error calling {name}: {error}") from None
            except TypeError:
                problem = f"wrong number of args for {first[2]}: got {len(arguments)}"
                raise _failure(first[1], first, problem) from None
        value = self._value(first, dot, call=False)
        if callable(value):
            try:
                return value(*arguments)
            except TypeError:
                problem = f"wrong number of args for {_text(first)}: got {len(arguments)}"
                raise _failure(first[1], first, problem) from None
        if arguments:
            problem = f"{_text(first)[1:]} has arguments but cannot be invoked as function"
            raise _failure(first[1], first, problem)
        return value

    def _value(self, node: Node, dot: object, *, call: bool = True) -> object:
        kind = node[0]
        value: object
        if kind == "value":
            value = node[2]
        elif kind == "dot":
            value = dot
        elif kind == "field":
            value = self._fields(node, dot, node[2])
        elif kind == "chain":
            value = self._fields(node, self._value(node[2], dot), node[3])
        elif kind == "variable":
            value = self._variable(node)
        elif kind == "pipe":
            value = self._pipe(node, dot)
        else:
            value = FUNCTIONS[node[2]]()
        if call and callable(value):
            raise _failure(node[1], node, f"wrong number of args for {_text(node)[1:]}: got 0")
        return value

    def _variable(self, node: Node) -> object:
        for name, value in reversed(self._variables):
            if name == node[2]:
                return value
        raise _failure(node[1], node, f"undefined variable {quote(node[2])}")

    def _fields(self, node: Node, value: object, names: Sequence[str]) -> object:
        for name in names:
            value = _field(node, value, name)
        return value


class _Missing:
    def __repr__(self) -> str:
        return "<no value>"


_MISSING = _Missing()
_NOTHING = _Missing()


def _field(node: Node, value: object, name: str) -> object:
    if isinstance(value, dict):
        try:
            found = value[name]
        except KeyError:
            problem = f"map has no entry for key {quote(name)}"
            raise _failure(node[1], node, problem) from None
        return _MISSING if found is None else found
    if isinstance(value, View):
        try:
            return value.field(name)
        except KeyError:
            problem = f"can't evaluate field {name} in type {value.type_name}"
            raise _failure(node[1], node, problem) from None
    if value is None or value is _MISSING:
        raise _failure(node[1], node, f"nil pointer evaluating interface {{}}.{name}")
    kinds = {str: "string", bool: "bool", int: "int", float: "float64", list: "[]interface {}"}
    kind = kinds.get(type(value), "interface {}")
    raise _failure(node[1], node, f"can't evaluate field {name} in type {kind}")


def _failure(at: int, node: Node, problem: str) -> TemplateError:
    text = _text(node)
    text = text if len(text) <= 20 else f"{text[:20]}..."
    return TemplateError(f'template: :1:{at}: executing "" at <{text}>: {problem}')


def _text(node: Node) -> str:
    kind = node[0]
    if kind == "field":
        return "".join(f".{name}" for name in node[2])
    if kind == "chain":
        return _text(node[2]) + "".join(f".{name}" for name in node[3])
    if kind == "value":
        return quote(node[2]) if isinstance(node[2], str) else show(node[2])
    if kind == "pipe":
        return " | ".join(map(_text, node[2]))
    if kind == "command":
        return " ".join(map(_text, node[2]))
    return str(node[2])


def _truth(value: object) -> bool:
    if isinstance(value, View):
        return True
    return value is not _MISSING and bool(value)


# -- functions


def _index(value: object, *keys: object) -> object:
    for key in keys:
        if isinstance(value, dict):
            # Go: the zero value of the element's type, which nobody knows here.
            value = value.get(str(key))
        elif isinstance(value, (list, tuple, str)):
            if not isinstance(key, int) or isinstance(key, bool):
                raise TemplateError(f"cannot index slice/array with type {type(key).__name__}")
            if not 0 <= key < len(value):
                raise TemplateError(f"index out of range: {key}")
            value = value[key]
        elif value is None or value is _MISSING:
            raise TemplateError("index of untyped nil")
        else:
            raise TemplateError(f"can't index item of type {type(value).__name__}")
    return _MISSING if value is None else value


def _slice(value: object, start: int = 0, end: int | None = None) -> object:
    if not isinstance(value, (list, tuple, str)):
        raise TemplateError(f"can't slice item of type {type(value).__name__}")
    stop = len(value) if end is None else end
    if not 0 <= start <= stop <= len(value):
        raise TemplateError(f"index out of range: {stop if stop > len(value) else start}")
    return value[start:stop]


def _json(value: object) -> str:
    if isinstance(value, View):
        return escaped_json(value.document())
    text = escaped_json(None if value is _MISSING else value)
    return text.replace("\\u003c", "<").replace("\\u003e", ">").replace("\\u0026", "&")


def _len(value: object) -> int:
    if isinstance(value, (str, list, tuple, dict)):
        return len(value.encode() if isinstance(value, str) else value)
    raise TemplateError(f"len of type {type(value).__name__}")


def _join(items: object, separator: str) -> str:
    if not isinstance(items, (list, tuple)):
        raise TemplateError(f"wrong type for value; expected []string; got {show(items)}")
    return separator.join(map(show, items))


def _truncate(text: str, length: int) -> str:
    return text[:length]


def _pad(text: str, before: int, after: int) -> str:
    return f"{' ' * before}{text}{' ' * after}" if text else ""


def _title(text: str) -> str:
    made, previous = [], " "
    for character in text:
        made.append(character.upper() if previous.isspace() else character)
        previous = character
    return "".join(made)


def _printf(pattern: str, *values: object) -> str:
    made, at, left = [], 0, list(values)
    while (start := pattern.find("%", at)) >= 0:
        made.append(pattern[at:start])
        end = start + 1
        while end < len(pattern) and (pattern[end] in "+-# 0." or pattern[end].isdigit()):
            end += 1
        verb, flags = pattern[end : end + 1], pattern[start + 1 : end]
        at = end + 1
        if verb == "%":
            made.append("%")
        elif not left:
            made.append(f"%!{verb}(MISSING)")
        else:
            made.append(_formatted(verb, flags, left.pop(0)))
    return "".join(made) + pattern[at:]


def _formatted(verb: str, flags: str, value: object) -> str:
    if verb == "q":
        return ("%" + flags + "s") % quote(show(value))
    if verb in "svt":
        return ("%" + flags.replace("+", "").replace("#", "") + "s") % show(value)
    try:
        if verb in "dxXoceEfgG" and isinstance(value, (int, float)):
            return ("%" + flags + verb) % value
        if verb in "xX" and isinstance(value, str):
            return value.encode().hex()
    except (ValueError, TypeError):
        pass
    return f"%!{verb}({type(value).__name__}={show(value)})"


def _print(*values: object) -> str:
    made = ""
    for at, value in enumerate(values):
        words = isinstance(value, str) or (at and isinstance(values[at - 1], str))
        made += ("" if not at or words else " ") + show(value)
    return made


def _equal(first: object, *others: object) -> bool:
    return any(first == other for other in others)


def _and(*values: object) -> object:
    return next((value for value in values if not _truth(value)), values[-1])


def _or(*values: object) -> object:
    return next((value for value in values if _truth(value)), values[-1])


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": _and,
    "or": _or,
    "not": lambda value: not _truth(value),
    "eq": _equal,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "index": _index,
    "join": _join,
    "json": _json,
    "len": _len,
    "lower": lambda text: show(text).lower(),
    "pad": _pad,
    "print": _print,
    "printf": _printf,
    "println": lambda *values: " ".join(map(show, values)) + "\n",
    "slice": _slice,
    "split": lambda text, separator: text.split(separator),
    "title": _title,
    "truncate": _truncate,
    "upper": lambda text: show(text).upper(),
}
