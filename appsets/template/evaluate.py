"""Render parsed Go templates within limits; values are JSON, Python objects are unreachable.

Source: https://pkg.go.dev/text/template.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from appsets.template.functions import FUNCTIONS
from appsets.template.functions.values import Missing, is_true, kind_of, shown
from appsets.template.limits import MAX_OUTPUT, require_time
from appsets.template.syntax import Command, Node, Operand, Pipe, Template, TemplateError, parse

MAX_STEPS = 200_000
MAX_CALLS = 50
# Bounds of arguments and results, in total and each: counts of values, 64 characters count as one.
MAX_VOLUME = 2_000_000
MAX_VALUE_VOLUME = 200_000
CHARACTERS, MAX_BITS = 64, 1024
NO_VALUE = Missing()


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _Run:
    """The state of one rendering: its root, its remaining budget and its output."""

    def __init__(self, template: Template, data: Any, missing: str) -> None:
        self.template, self.data, self.missing = template, data, missing
        self.steps, self.size, self.calls = MAX_STEPS, 0, 0
        self.volume = MAX_VOLUME
        self.out: list[str] = []

    def write(self, text: str) -> None:
        self.size += len(text)
        if self.size > MAX_OUTPUT:
            raise TemplateError(f"the template writes more than {MAX_OUTPUT} characters")
        self.out.append(text)

    def weigh(self, value: Any) -> None:
        """Count an argument or result of a function: a loop can double a value in each step."""
        found, todo = 0, [value]
        while todo and found <= MAX_VALUE_VOLUME:
            one = todo.pop()
            found += 1
            if isinstance(one, str):
                found += len(one) // CHARACTERS if len(one) <= MAX_OUTPUT else MAX_VALUE_VOLUME
            elif isinstance(one, int) and one.bit_length() > MAX_BITS:
                found += MAX_VALUE_VOLUME
            elif isinstance(one, Mapping):
                todo += [*one.keys(), *one.values()]
            elif isinstance(one, list | tuple):
                todo += one
        self.volume -= found
        if found > MAX_VALUE_VOLUME or self.volume < 0:
            raise TemplateError("the template makes values that are too large")

    def step(self, line: int) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise TemplateError(f"line {line}: the template takes more than {MAX_STEPS} steps")


class _Scope:
    """The visible variables."""

    __slots__ = ("outer", "values")

    def __init__(self, outer: "_Scope | None", values: dict[str, Any] | None = None) -> None:
        self.outer, self.values = outer, values if values is not None else {}

    def get(self, name: str, line: int) -> Any:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.outer
        raise TemplateError(f"line {line}: undefined variable {name}")

    def assign(self, name: str, value: Any, line: int) -> None:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.values:
                scope.values[name] = value
                return
            scope = scope.outer
        raise TemplateError(f"line {line}: undefined variable {name}")


def render(text: str, data: Any, *, missing: str = "default") -> str:
    """Return the output of a template for data.

    Shapes: `data` is JSON; `missing` is Go's missingkey: `default` or `invalid` (`<no value>`),
        `zero` or `error`.
    Raises: TemplateError with the line.
    """
    require_time()
    try:
        run = _Run(parse(text), data, missing)
        _nodes(run, run.template.body, data, _Scope(None, {"$": data}))
    except (_Break, _Continue):
        raise TemplateError("{{break}} or {{continue}} outside {{range}}") from None
    except RecursionError as error:
        raise TemplateError("the template is nested too deep") from error
    except ValueError as error:
        raise TemplateError(f"the template has a number that is too large: {error}") from error
    return "".join(run.out)


def _nodes(run: _Run, nodes: Sequence[Node], dot: Any, scope: _Scope) -> None:
    for node in nodes:
        if node.kind == "text":
            run.write(node.text)
            continue
        run.step(node.line)
        _WALKERS[node.kind](run, node, dot, scope)


def _action(run: _Run, node: Node, dot: Any, scope: _Scope) -> None:
    if node.pipe is None:
        return
    value = _pipe(run, node.pipe, dot, scope)
    if not node.pipe.declared:
        run.write(shown(value))


def _if(run: _Run, node: Node, dot: Any, scope: _Scope) -> None:
    inner = _Scope(scope)
    if node.pipe is not None and is_true(_pipe(run, node.pipe, dot, inner)):
        _nodes(run, node.body, dot, _Scope(inner))
    else:
        _nodes(run, node.otherwise, dot, _Scope(inner))


def _with(run: _Run, node: Node, dot: Any, scope: _Scope) -> None:
    inner = _Scope(scope)
    value = _pipe(run, node.pipe, dot, inner) if node.pipe is not None else None
    if is_true(value):
        _nodes(run, node.body, value, _Scope(inner))
    else:
        _nodes(run, node.otherwise, dot, _Scope(inner))


def _range(run: _Run, node: Node, dot: Any, scope: _Scope) -> None:
    if node.pipe is None:
        return
    bare = Pipe(node.pipe.commands, (), assigns=False, line=node.line)
    items = _items(_pipe(run, bare, dot, scope), node.line)
    if not items:
        _nodes(run, node.otherwise, dot, _Scope(scope))
        return
    for key, value in items:
        run.step(node.line)
        inner = _Scope(scope)
        names = node.pipe.declared
        given = [value] if len(names) == 1 else [key, value]
        for name, one in zip(names, given, strict=False):
            if node.pipe.assigns:
                scope.assign(name, one, node.line)
            else:
                inner.values[name] = one
        try:
            _nodes(run, node.body, value, inner)
        except _Break:
            return
        except _Continue:
            continue


def _items(value: Any, line: int) -> list[tuple[Any, Any]]:
    if value is None or isinstance(value, Missing):
        return []
    if isinstance(value, Mapping):
        return sorted(value.items())
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool):
        if value > MAX_STEPS:
            raise TemplateError(f"line {line}: range over {value} is more than {MAX_STEPS} steps")
        return [(n, n) for n in range(value)]
    raise TemplateError(f"line {line}: range can't iterate over {shown(value)}")


def _template(run: _Run, node: Node, dot: Any, scope: _Scope) -> None:
    body = run.template.defined.get(node.text)
    if body is None:
        raise TemplateError(f'line {node.line}: template "{node.text}" not defined')
    value = _pipe(run, node.pipe, dot, scope) if node.pipe is not None else None
    run.calls += 1
    if run.calls > MAX_CALLS:
        raise TemplateError(
            f"line {node.line}: templates call each other more than {MAX_CALLS} deep"
        )
    _nodes(run, body, value, _Scope(None, {"$": value}))
    run.calls -= 1


def _stop(_run: _Run, node: Node, _dot: Any, _scope: _Scope) -> None:
    raise _Break if node.kind == "break" else _Continue


_WALKERS: dict[str, Callable[[_Run, Node, Any, _Scope], None]] = {
    "action": _action,
    "if": _if,
    "with": _with,
    "range": _range,
    "template": _template,
    "break": _stop,
    "continue": _stop,
}


def _pipe(run: _Run, pipe: Pipe, dot: Any, scope: _Scope) -> Any:
    value: Any = NO_VALUE
    for number, command in enumerate(pipe.commands):
        value = _command(run, command, dot, scope, (value,) if number else ())
    for name in pipe.declared:
        if pipe.assigns:
            scope.assign(name, value, pipe.line)
        else:
            scope.values[name] = value
    return value


def _command(run: _Run, command: Command, dot: Any, scope: _Scope, piped: tuple[Any, ...]) -> Any:
    run.step(command.line)
    first = command.words[0]
    if first.kind == "function":
        return _call(run, first, command.words[1:], dot, scope, piped)
    if len(command.words) > 1 or piped:
        raise TemplateError(
            f"line {command.line}: can't give argument to non-function {_name(first)}"
        )
    return _value(run, first, dot, scope)


def _call(
    run: _Run,
    operand: Operand,
    words: Sequence[Operand],
    dot: Any,
    scope: _Scope,
    piped: tuple[Any, ...],
) -> Any:
    name = str(operand.value)
    if name in ("and", "or"):
        return _lazy(run, name, words, dot, scope, piped)
    function = FUNCTIONS.get(name)
    if function is None:
        raise TemplateError(f'line {operand.line}: function "{name}" not defined')
    arguments = [*(_value(run, word, dot, scope) for word in words), *piped]
    try:
        run.weigh(arguments)
        found = function(*arguments)
        run.weigh(found)
        return found
    except TemplateError as error:
        raise TemplateError(f"line {operand.line}: error calling {name}: {error}") from error
    except (
        TypeError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        OverflowError,
        ZeroDivisionError,
        MemoryError,
    ) as error:
        raise TemplateError(
            f"line {operand.line}: error calling {name}: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    text = str(error)
    # Python's own message about its functions does not help the author of a template.
    return (
        "wrong number or kind of arguments"
        if isinstance(error, TypeError | AttributeError)
        else text[:200]
    )


def _lazy(
    run: _Run, name: str, words: Sequence[Operand], dot: Any, scope: _Scope, piped: tuple[Any, ...]
) -> Any:
    value: Any = NO_VALUE
    for word in words:
        value = _value(run, word, dot, scope)
        if is_true(value) == (name == "or"):
            return value
    return piped[0] if piped else value


def _name(operand: Operand) -> str:
    return "." + ".".join(operand.fields) if operand.kind == "dot" else shown(operand.value)


def _value(run: _Run, operand: Operand, dot: Any, scope: _Scope) -> Any:
    run.step(operand.line)
    if operand.kind == "value":
        return operand.value
    if operand.kind == "dot":
        base = dot
    elif operand.kind == "variable":
        base = scope.get(str(operand.value), operand.line)
    elif operand.kind == "pipe":
        base = _pipe(run, operand.value, dot, _Scope(scope))
    else:
        return _call(run, operand, (), dot, scope, ())
    for field in operand.fields:
        base = _field(run, base, field, operand.line)
    return base


def _field(run: _Run, base: Any, field: str, line: int) -> Any:
    if isinstance(base, Mapping):
        if field in base:
            return base[field]
        if run.missing == "error":
            raise TemplateError(f'line {line}: map has no entry for key "{field}"')
        return NO_VALUE
    if base is None or isinstance(base, Missing):
        if run.missing == "error":
            raise TemplateError(f"line {line}: nil pointer evaluating interface {{}}.{field}")
        if isinstance(base, Missing):
            return NO_VALUE
        raise TemplateError(f"line {line}: nil pointer evaluating interface {{}}.{field}")
    raise TemplateError(f"line {line}: can't evaluate field {field} in type {kind_of(base)}")
