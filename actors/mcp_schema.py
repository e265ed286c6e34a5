"""The schema of a tool of a server, made such that nobody who judges by it works for long. Pure.

A server is not trusted with the time of an agent: a regular expression may backtrack for ever, and
a few references to references stand for any number of schemas. So agents judge by a copy:

- Each reference is replaced by what it refers to, as long as all that is small. Where it leads back
  into itself the copy takes anything: to follow it as deep as the value goes would not do, as two
  such references beside each other are 2^depth of them.
- Keywords that take long, or with which less elsewhere would mean more here (`not`, `if`), are left
  out, and of `oneOf` any will do.

So the copy takes whatever the schema takes, and more. The rest is for the server to refuse, which
is asked with the same arguments.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from pydantic import JsonValue

from actors.errors import InvalidTool

MAX_NODES: Final = 1_000
"""Schemas in a schema, each reference counted as what it stands for."""
MAX_DEPTH: Final = 64
"""Of schemas in each other; far below what Python's stack takes."""
_REASON_CHARS: Final = 80
_NOTES: Final = frozenset({"title", "description"})
_KEPT: Final = _NOTES | frozenset(
    {
        *("type", "enum", "const", "format", "required", "dependentRequired", "multipleOf"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"),
        *("minItems", "maxItems", "minProperties", "maxProperties"),
    }
)
_OF_ONE: Final = ("items", "additionalProperties", "propertyNames")
_OF_SEVERAL: Final = ("prefixItems", "allOf", "anyOf")
_OF_NAMED: Final = ("properties", "dependentSchemas")


def bounded(schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The copy that agents judge by.

    Args:
        schema: a JSON schema of draft 2020-12.

    Raises:
        InvalidTool: it stands for more than `MAX_NODES` schemas or `MAX_DEPTH` in each other, or
            refers to what is no schema.
    """
    whole: dict[str, JsonValue] = dict(schema)
    copy = _Copy(whole).of(whole, frozenset({"#"}), 0)
    return copy if isinstance(copy, dict) else {}


class _Copy:
    """Copies parts of a schema, and counts them."""

    def __init__(self, root: JsonValue) -> None:
        self._root = root
        self._nodes = 0

    def of(self, part: JsonValue, within: frozenset[str], depth: int) -> JsonValue:
        """The copy of a part; `within` are the references that led to it."""
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise InvalidTool(
                f"its schema stands for more than {MAX_NODES} schemas, or {MAX_DEPTH} in each other"
            )
        if isinstance(part, bool):
            return part
        if not isinstance(part, dict):
            raise InvalidTool("a part of its schema is no schema")
        copy = self._without_references(part, within, depth)
        if "oneOf" in part:
            any_of = self._several(part["oneOf"], within, depth)
            copy = _with(copy, {"anyOf": any_of})
        reference = part.get("$ref")
        if isinstance(reference, str) and reference not in within:
            target = self.of(self._at(reference), within | {reference}, depth + 1)
            copy = _with(copy, target)
        return copy

    def _without_references(
        self, part: dict[str, JsonValue], within: frozenset[str], depth: int
    ) -> dict[str, JsonValue]:
        copy = {name: value for name, value in part.items() if name in _KEPT}
        for name, value in part.items():
            if name in _OF_ONE:
                copy[name] = self.of(value, within, depth + 1)
            elif name in _OF_SEVERAL:
                copy[name] = self._several(value, within, depth)
            elif name in _OF_NAMED and isinstance(value, dict):
                copy[name] = {
                    each: self.of(inner, within, depth + 1) for each, inner in value.items()
                }
        if "patternProperties" in part:
            copy.pop("additionalProperties", None)  # which are others then
        return copy

    def _several(self, parts: JsonValue, within: frozenset[str], depth: int) -> list[JsonValue]:
        if not isinstance(parts, list):
            raise InvalidTool("a part of its schema is no list of schemas")
        return [self.of(each, within, depth + 1) for each in parts]

    def _at(self, reference: str) -> JsonValue:
        """What a reference leads to: a JSON pointer (RFC 6901) in a fragment."""
        found = self._root
        for token in unquote(reference).removeprefix("#").split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and name in map(str, range(len(found))):
                found = found[int(name)]
            else:
                raise _leads_nowhere(reference)
        is_pointer = reference == "#" or reference.startswith("#/")
        if not is_pointer or not isinstance(found, dict | bool):
            raise _leads_nowhere(reference)
        return found


def _with(copy: dict[str, JsonValue], also: JsonValue) -> dict[str, JsonValue]:
    """Both; in one where the first says nothing but what it is for."""
    if isinstance(also, dict) and copy.keys() <= _NOTES:
        return {**also, **copy}
    before = copy.get("allOf")
    return {**copy, "allOf": [*(before if isinstance(before, list) else ()), also]}


def _leads_nowhere(reference: str) -> InvalidTool:
    return InvalidTool(f"its schema refers to {reference[:_REASON_CHARS]!r}, which is no schema")
