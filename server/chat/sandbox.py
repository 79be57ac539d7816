"""Runs a chat template, which is somebody else's program, within fixed bounds.

Every loop, macro and call counts a step; every operation whose result may be much larger than its
source is charged for that size before it happens; attributes are allowed by name, not forbidden
by name. Knows nothing of what a conversation is.
"""

from __future__ import annotations

import gc
import json
import re
import threading
import time
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Sequence,
    ValuesView,
)
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, NoReturn, cast

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.tests import TESTS
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MAX_STEPS = 2_000_000
MAX_CPU_SECONDS = 1.0
MAX_TEXT = 4_000_000  # characters of any one value
MAX_RANGE = 10_000
MAX_INTEGER_BITS = 1024
MAX_WIDTH = 999  # of a padded field, an indent, a precision
CHARACTERS_PER_STEP = 256  # what making text costs, next to one turn of a loop
ITEM_SIZE = 64  # what an element of a container weighs when written out, in characters
REFERENCE_SIZE = 8  # what it takes to hold one
ELEMENT_SIZE = 64  # what it takes to make one, say of the parts of a text
LONG_LITERAL = 8  # of elements; a shorter one is not worth a charge
LITERALS = (nodes.List, nodes.Tuple, nodes.Dict)

TEXT_METHODS = frozenset(
    {
        *("capitalize", "casefold", "count", "endswith", "find", "format", "index", "isalnum"),
        *("isalpha", "isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle"),
        *("isupper", "join", "lower", "lstrip", "partition", "removeprefix", "removesuffix"),
        *("replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines"),
        *("startswith", "strip", "swapcase", "title", "upper"),
    }
)
LOOP_ATTRIBUTES = frozenset(
    {
        *("cycle", "depth", "depth0", "first", "index", "index0", "last", "length"),
        *("nextitem", "previtem", "revindex", "revindex0"),
    }
)
ATTRIBUTES: tuple[tuple[type, frozenset[str]], ...] = (
    (str, TEXT_METHODS),
    (dict, frozenset({"get", "items", "keys", "values"})),
    (LoopContext, LOOP_ATTRIBUTES),
    (Macro, frozenset({"arguments", "catch_kwargs", "catch_varargs", "caller", "name"})),
    (BlockReference, frozenset({"super"})),
)
# These filters work on the text of their operand, on its elements, on all it holds, on none.
TEXT_FILTERS = ("capitalize", "e", "escape", "lower", "safe", "string", "trim", "upper")
SURFACE_FILTERS = (
    *("attr", "float", "int", "list", "map", "reject", "rejectattr"),
    *("reverse", "select", "selectattr", "truncate"),
)
CONSTANT_FILTERS = ("abs", "count", "d", "default", "first", "items", "last", "length")
DEEP_FILTERS = ("dictsort", "max", "min", "sort", "unique")
COMPARING_TESTS = frozenset(TESTS) & {
    *("in", "==", "eq", "equalto", "!=", "ne", ">", "gt", "greaterthan", ">=", "ge"),
    *("<", "lt", "lessthan", "<=", "le"),
}


class TemplateLimit(Exception):
    """A template took more steps, time or room than any honest one needs."""


class TemplateRaised(Exception):
    """A template called `raise_exception`."""


class _Collections(threading.local):
    """What this thread has spent on collecting garbage, whoever left it: up to a second at once."""

    seconds = 0.0
    begun = 0.0

    def watch(self, phase: str, _: dict[str, int]) -> None:
        now = time.thread_time()
        if phase == "start":
            self.begun = now
        else:
            self.seconds += now - self.begun


_collections = _Collections()
gc.callbacks.append(_collections.watch)


def _own_time() -> float:
    """Seconds of processor time of this thread, without garbage collections."""
    return time.thread_time() - _collections.seconds


class Meter:
    """What one rendering may still spend. Owned by the thread that renders."""

    __slots__ = ("_deadline", "_until_clock", "left")

    def __init__(self, steps: int = MAX_STEPS, seconds: float = MAX_CPU_SECONDS) -> None:
        self.left = steps
        self._deadline = _own_time() + seconds
        self._until_clock = 64

    def spend(self, size: int = 0) -> None:
        """Count one step, and the making of `size` characters."""
        if size > MAX_TEXT:
            raise TemplateLimit(f"it builds a value of more than {MAX_TEXT:,} characters")
        self.pay(size)

    def pay(self, size: int) -> None:
        """Count what does not make a value longer, but takes as much memory."""
        self.left -= 1 + size // CHARACTERS_PER_STEP
        self._until_clock -= 1
        if self.left < 0:
            raise TemplateLimit("it takes too many steps; perhaps it loops without end")
        if self._until_clock <= 0 or size > CHARACTERS_PER_STEP * 64:
            self._until_clock = 64
            if _own_time() > self._deadline:
                raise TemplateLimit("it takes too long; perhaps it loops without end")


_meter: ContextVar[Meter] = ContextVar("template_meter")


@contextmanager
def metered(meter: Meter) -> Iterator[None]:
    """All rendering inside draws on `meter`."""
    token = _meter.set(meter)
    try:
        yield
    finally:
        _meter.reset(token)


def spend(size: int = 0) -> None:
    _meter.get().spend(size)


def weigh(value: Any) -> int:
    """About how many characters `value` takes when written out; charged as it is counted.

    Containers may share parts, so that forty lines of template describe 2**40 elements: the walk
    counts them as often as writing, comparing or hashing would visit them.
    """
    total, waiting = 0, [value]
    while waiting:
        item = waiting.pop()
        total += _own_weight(item)
        if total > MAX_TEXT:
            break
        if inside := _contents(item):
            spend(ITEM_SIZE * len(inside))
            waiting.extend(inside)
    spend(total)
    return total


def _own_weight(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Namespace):
        raise TemplateLimit("it writes or compares a namespace")
    return max(ITEM_SIZE, value.bit_length()) if isinstance(value, int) else ITEM_SIZE


def _contents(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, (list, tuple, KeysView, ValuesView, ItemsView)):
        return list(value)
    return []


def surface(value: Any) -> int:
    """The room that `value` itself takes, without what it refers to."""
    if isinstance(value, str):
        return len(value)
    return len(value) * REFERENCE_SIZE if isinstance(value, (list, tuple, dict)) else 0


def _sized(value: Any) -> Any:
    spend(surface(value))
    return value


def _made(value: Any) -> Any:
    """Charge for a new value, and for the memory that it takes beyond its surface.

    So nobody holds more than CHARACTERS_PER_STEP bytes a step, which bounds a rendering's memory.
    """
    _meter.get().pay(_beyond_surface(value))
    return _sized(_integer(value))


def _beyond_surface(value: Any) -> int:
    if isinstance(value, str):
        return 0 if value.isascii() else value.__sizeof__() - len(value)
    return len(value) * ELEMENT_SIZE if isinstance(value, (list, tuple, dict)) else 0


def _comparable(value: Any) -> Any:
    """Comparing goes as deep as the operands do, and takes what a generator yields unseen."""
    if isinstance(value, Iterator):
        value = list(value)
    weigh(value)
    return value


def _scalar(value: Any) -> Any:
    """A key: hashing a tuple, or naming a list in an error, would go as deep as they do."""
    if not isinstance(value, (str, int, float, Undefined, type(None))):
        raise SecurityError(f"a {type(value).__name__} is not a key")
    return value


def join_text(parts: Iterable[str]) -> str:
    """What the compiled template puts its output together with."""
    pieces, total = [], 0
    for part in parts:
        total += len(part)
        spend(len(part))
        if total > MAX_TEXT:
            raise TemplateLimit(f"it writes more than {MAX_TEXT:,} characters")
        pieces.append(part)
    text = "".join(pieces)
    _meter.get().pay(_beyond_surface(text))
    return text


def _joined(items: list[Any]) -> str:
    for item in items:
        weigh(item)
    return join_text(map(str, items))


@pass_context
def _writable(_context: Context, value: Any) -> Any:
    weigh(value)
    return value


def add(left: Any, right: Any) -> Any:
    spend(surface(left) + surface(right))
    return _made(left + right)


def multiply(left: Any, right: Any) -> Any:
    for sequence, count in ((left, right), (right, left)):
        if isinstance(count, int) and isinstance(sequence, (str, list, tuple)):
            spend(surface(sequence) * max(count, 0))
    return _made(left * right)


def power(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        _width(left.bit_length() * max(right, 0), MAX_INTEGER_BITS)
    return left**right


def modulo(left: Any, right: Any) -> Any:
    """Remainder, or the filling of a `%` format whose fields cannot be of any width."""
    if isinstance(left, str):
        if re.search(r"\d{4}|%[#0\- +.\d]*\*", left):
            raise TemplateLimit("it formats a field of excessive width")
        spend(len(left) + left.count("%") * (MAX_WIDTH + weigh(right)))
    return left % right


def _integer(value: Any) -> Any:
    if isinstance(value, int):
        _width(value.bit_length(), MAX_INTEGER_BITS)
    return value


def _width(width: int, limit: int = MAX_WIDTH) -> None:
    if width > limit:
        raise TemplateLimit(f"it asks for a number or a field of more than {limit} places")


def _range(*args: int) -> range:
    numbers = range(*args)
    if len(numbers) > MAX_RANGE:
        raise TemplateLimit(f"it counts over more than {MAX_RANGE:,} numbers")
    return numbers


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as chat templates mean it: no HTML escapes, keys in their own order."""
    _width(indent if isinstance(indent, int) else len(indent or ""), 16)
    _width(max(map(len, separators or ("",))), 16)
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
        default=_items,
    )
    return join_text(encoder.iterencode(value))


def _items(value: Any) -> list[Any]:
    """What a filter such as `map` yields."""
    if not isinstance(value, Iterator):
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
    return list(value)


def _join(value: Iterable[Any], separator: str = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        raise SecurityError("`join` by attribute is not offered")
    items = list(_sized(value))
    spend(weigh(items) + len(str(separator)) * len(items))
    return str(separator).join(map(str, items))


def _replace(text: Any, old: str, new: str, count: int = -1) -> str:
    weigh(text)
    return replace_text(str(text), str(old), str(new), count)


def replace_text(text: str, old: str, new: str, count: int = -1, /) -> str:
    found = text.count(old) if count < 0 else min(count, text.count(old))
    spend(len(text) + found * len(new))
    return text.replace(old, new, count)


def _indent(text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    margin = len(width) if isinstance(width, str) else width
    _width(margin)
    weigh(text)
    written = str(text)
    spend(len(written) + (len(written.splitlines()) + 1) * margin)
    indented: str = FILTERS["indent"](written, width, first, blank)
    return indented


def _format(text: Any, *args: Any, **kwargs: Any) -> Any:
    return modulo(str(text), kwargs or args)


def _title(text: Any) -> str:
    spend(16 * weigh(text))  # Jinja's own goes word by word
    titled: str = FILTERS["title"](text)
    return titled


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    _width(abs(precision), 20)
    rounded: float = FILTERS["round"](value, precision, method)
    return rounded


def _guarded(function: Any, charged: Callable[[Any], Any]) -> Callable[..., Any]:
    """`function`, charged for what it reads and for what it makes."""

    def guarded(*args: Any, **kwargs: Any) -> Any:
        operand = charged(args[position])
        others = [_comparable(argument) for argument in args[position + 1 :]]
        weigh(kwargs)
        return _made(function(*args[:position], operand, *others, **kwargs))

    kind = getattr(function, "jinja_pass_arg", None)
    position = 0 if kind is None else 1
    if kind is not None:
        guarded.jinja_pass_arg = kind  # type: ignore[attr-defined] # as Jinja's decorators do
    return guarded


def _making(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: _made(function(*args, **kwargs))


def _filters() -> dict[str, Callable[..., Any]]:
    makers: dict[str, Callable[..., Any]] = {
        "format": _format,
        "indent": _indent,
        "join": _join,
        "replace": _replace,
        "title": _title,
    }
    return {
        **{name: _guarded(FILTERS[name], _comparable) for name in (*TEXT_FILTERS, *DEEP_FILTERS)},
        **{name: _guarded(FILTERS[name], _sized) for name in SURFACE_FILTERS},
        **{name: FILTERS[name] for name in CONSTANT_FILTERS},
        **{name: _making(function) for name, function in makers.items()},
        "round": _round,
        "tojson": tojson,
        "_comparable": _comparable,
        "_joined": _joined,
        "_made": _made,
        "_scalar": _scalar,
        "_sized": _sized,
    }


def _tests() -> dict[str, Callable[..., Any]]:
    tests: dict[str, Any] = {**TESTS}
    return tests | {name: _guarded(tests[name], _comparable) for name in COMPARING_TESTS}


def _raise(message: Any) -> NoReturn:
    weigh(message)
    raise TemplateRaised(str(message)[:1000])


class Metering(NodeTransformer):
    """Puts a step into every loop and macro, and a charge on what the environment cannot see."""

    def _inside(self, node: nodes.Node) -> nodes.Node:
        self.generic_visit(node)
        body: list[nodes.Node] = node.body  # type: ignore[attr-defined]
        step = nodes.ExprStmt(_filtered(nodes.Const(None), "_sized"), lineno=node.lineno)
        body.insert(0, step)
        return node

    visit_Macro = visit_CallBlock = visit_Block = _inside  # noqa: N815 # the visitor's own names

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self._inside(node)
        if node.test is not None:
            node.test = _filtered(node.test, "_sized")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "_joined")

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _filtered(node.expr, "_comparable")
        for operand in node.ops:
            operand.expr = _filtered(operand.expr, "_comparable")
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "_sized") if isinstance(node.arg, nodes.Slice) else node

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        return self._literal(node, node.items)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        return self._literal(node, node.items)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        return self._literal(node, node.items) if node.ctx == "load" else node

    def _literal(self, node: nodes.Node, items: Sequence[nodes.Node]) -> nodes.Node:
        """A short one is paid for by the step that it is written in."""
        is_large = len(items) > LONG_LITERAL or any(isinstance(item, LITERALS) for item in items)
        self.generic_visit(node)
        return _filtered(node, "_made") if is_large else node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.key = _filtered(node.key, "_scalar")
        return node


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(cast("nodes.Expr", node), name, [], [], None, None, lineno=node.lineno)


class BoundedFormatter(SandboxedFormatter):
    """`str.format` whose fields cannot be of any width, however the width is written."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if re.search(r"\d{4}", format_spec):
            raise TemplateLimit("it formats a field of excessive width")
        return str(super().format_field(value, format_spec))


class Generation(Extension):
    """`{% generation %}` marks what the assistant wrote, for training. Here it only writes it."""

    tags = frozenset({"generation"})  # type: ignore[assignment] # declared as a mutable set

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Sandbox(ImmutableSandboxedEnvironment):
    """A Jinja environment with the settings that chat templates are written for.

    Nothing is folded at compile time: there, no meter would count it.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    concat = staticmethod(join_text)

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            finalize=_writable,
            extensions=[loopcontrols, Generation],
        )
        self.filters = dict[str, Any](_filters())
        self.tests = dict[str, Any](_tests())
        self.binop_table |= {"+": add, "*": multiply, "**": power, "%": modulo}
        self.globals = {
            "dict": dict,
            "namespace": Namespace,
            "raise_exception": _raise,
            "range": _range,
            "strftime_now": lambda form: now().strftime(form[:MAX_WIDTH]),
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        Metering().visit(tree)
        return tree

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if attr.startswith("_"):
            return False
        if isinstance(obj, Namespace):
            return True
        return any(isinstance(obj, owner) and attr in names for owner, names in ATTRIBUTES)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Nothing is under what cannot be hashed, as for Jinja, whose error would name it whole."""
        if isinstance(argument, (list, dict)):
            return self.undefined(hint=f"a {type(argument).__name__} is not a key")
        return super().getitem(obj, _scalar(argument))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        text = getattr(value, "__self__", None)
        if not isinstance(text, str) or value.__name__ != "format":
            return None

        def filled(*args: Any, **kwargs: Any) -> str:
            room = MAX_WIDTH + weigh(args) + weigh(kwargs)
            spend(len(text) + text.count("{") * room)
            return BoundedFormatter(self).vformat(text, args, kwargs)

        return filled

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        spend(ELEMENT_SIZE * (len(args) + len(kwargs)))
        return _made(super().call(context, _bounded(obj, args), *args, **kwargs))


def _bounded(method: Any, args: tuple[Any, ...]) -> Any:
    """Charge a method call for what it will make; `replace` and `join` can make much of little."""
    owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
    if isinstance(owner, str):
        spend(len(owner) + weigh(args))
        if name == "join":
            return lambda items: _join(items, owner)
        if name == "replace":
            return lambda *words: replace_text(owner, *words)
    if isinstance(owner, dict) and args:
        _scalar(args[0])
    if method in (dict, Namespace):
        weigh(args)
    return method
