"""A readable value that a JSON schema allows, the same one for the same seed.

Understands what pydantic writes: types, enum, const, lengths, ranges, common
patterns and formats, arrays, nested objects, $ref, allOf, anyOf and oneOf. Not
`not`, `if`, `dependent...` or `patternProperties`, which it ignores, nor a
pattern that none of a few plain words matches, which it refuses.
"""

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from pydantic import JsonValue

from serve.errors import ModelRefused

Schema: TypeAlias = Mapping[str, JsonValue]
Path: TypeAlias = tuple[str, ...]

# From here on optional properties are left out and arrays are as short as they may be, so that a
# schema that contains itself comes to an end. What is not at an end then has none.
_SHALLOW_DEPTH: Final = 6
_DEEPEST: Final = 16
_USUAL_ITEMS: Final = 2
_USUAL_RANGE: Final = 10.0
_TURNS: Final = 10  # different numbers that one range gives
_PROSE_WORDS: Final = 9
_PROSE_WORD: Final = 12
"""Characters of a word where a pattern asks for prose."""
_QUOTED_WORDS: Final = 5
_TRIES: Final = 32  # for the next item of an array whose items differ

_TEMPLATES: Final = (
    '{label} for "{quote}".',
    '{label}: take "{quote}" in small steps.',
    '{label} that follows from "{quote}".',
    '{label}: hold "{quote}" against the request.',
    '{label} with "{quote}" at its centre.',
)
_CODE: Final = "# {sentence}\ndef scripted() -> str:\n    return {quote!r}\n"
_CODE_NAMES: Final = frozenset({"code", "source", "tests"})
_FAVOURABLE: Final = frozenset({"accepted", "approved", "passed"})
_FORMATS: Final[Mapping[JsonValue, str]] = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T12:00:00Z",
    "duration": "PT1M",
    "email": "someone@example.org",
    "ipv4": "192.0.2.1",
    "time": "12:00:00Z",
    "uri": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_PLAIN: Final = ("1", "1.0", "1.0.0", "A", "a", "A1", "a1", "2026-01-01", "0" * 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """Makes values for the parts of one schema."""

    root: Schema
    seed: bytes
    """Another seed makes other choices."""
    words: Sequence[str]
    """What texts quote."""

    def value(self, schema: JsonValue, path: Path = ()) -> JsonValue:
        """Make a value for `schema`, which stands at `path`.

        Raises:
            ModelRefused: The schema allows nothing, or nothing that is found here.
        """
        if schema is False or len(path) > _DEEPEST:
            raise ModelRefused(f"the schema allows nothing, or no end, at {_where(path)}")
        resolved = self._resolve(_mapping(schema), path)
        if "const" in resolved:
            return resolved["const"]
        if choices := _items(resolved, "enum"):
            return choices[self._pick(len(choices), path)]
        maker = self._makers().get(_kind(resolved))
        if maker is None:
            raise ModelRefused(f"the schema has an unknown type at {_where(path)}")
        return maker(resolved, path)

    def _makers(self) -> Mapping[JsonValue, Callable[[Schema, Path], JsonValue]]:
        return {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": lambda schema, path: _integer(schema, self._pick(_TURNS, path), path),
            "number": lambda schema, path: _number(schema, self._pick(_TURNS, path)),
            "boolean": lambda _, path: _name(path) in _FAVOURABLE or self._pick(2, path) == 0,
            "null": lambda _, __: None,
        }

    def sentence(self, label: str, path: Path = ()) -> str:
        """A sentence about `label` that quotes the words."""
        template = _TEMPLATES[self._pick(len(_TEMPLATES), (*path, "template"))]
        return template.format(label=label, quote=self._quote(path))

    def _resolve(self, schema: Schema, path: Path) -> Schema:
        """The schema with its references followed and one of its alternatives taken."""
        for _ in range(_DEEPEST):
            rest = {k: v for k, v in schema.items() if k not in {"$ref", "allOf", "anyOf", "oneOf"}}
            if isinstance(reference := schema.get("$ref"), str):
                schema = _merge([self._follow(reference), rest])
            elif parts := _items(schema, "allOf"):
                schema = _merge([*(self._resolve(_mapping(one), path) for one in parts), rest])
            elif options := _items(schema, "anyOf") or _items(schema, "oneOf"):
                schema = _merge([_mapping(self._option(options, path)), rest])
            else:
                return schema
        raise ModelRefused(f"the schema's references do not end at {_where(path)}")

    def _option(self, options: Sequence[JsonValue], path: Path) -> JsonValue:
        """The first alternative that is not null; deep down, one that contains no other schema."""
        if len(path) < _SHALLOW_DEPTH:
            return next((one for one in options if _mapping(one).get("type") != "null"), options[0])
        plain = (one for one in options if not {"$ref", "items", "properties"} & {*_mapping(one)})
        return next(plain, options[0])

    def _follow(self, reference: str) -> Schema:
        found: JsonValue = dict(self.root)
        if not reference.startswith("#"):
            raise ModelRefused(f"the schema refers to another document: {reference}")
        for key in filter(None, reference.removeprefix("#").split("/")):
            found = _mapping(found).get(key.replace("~1", "/").replace("~0", "~"))
        if not isinstance(found, dict):
            raise ModelRefused(f"the schema refers to nothing: {reference}")
        return found

    def _object(self, schema: Schema, path: Path) -> dict[str, JsonValue]:
        properties = _mapping(schema.get("properties", {}))
        extra = schema.get("additionalProperties", True)
        required = [str(name) for name in _items(schema, "required")]
        optional = [name for name in properties if name not in required]
        least = int(_bound(schema, "minProperties", 0 if properties or required else 1))
        most = int(_bound(schema, "maxProperties", len(properties) + len(required) + least))
        if len(path) >= _SHALLOW_DEPTH:
            optional = optional[: max(0, least - len(required))]
        chosen = {*required, *optional[: max(0, most - len(required))]}
        names = [name for name in properties if name in chosen]
        names += [name for name in required if name not in names]
        if extra is not False:
            names += [f"entry {number}" for number in range(1, min(least, most) - len(names) + 1)]
        return {name: self.value(properties.get(name, extra), (*path, name)) for name in names}

    def _array(self, schema: Schema, path: Path) -> list[JsonValue]:
        prefix = _items(schema, "prefixItems")
        items = schema.get("items", True)
        count = int(_bound(schema, "minItems", 0))
        if len(path) < _SHALLOW_DEPTH:
            count = max(count, len(prefix) or _USUAL_ITEMS)
        count = min(count, int(_bound(schema, "maxItems", count)))
        found: list[JsonValue] = []
        for number in range(min(count, len(prefix)) if items is False else count):
            inner = prefix[number] if number < len(prefix) else items
            tries = range(_TRIES if schema.get("uniqueItems") else 1)
            ways = (self.value(inner, (*path, f"{number}{'+' * turn}")) for turn in tries)
            item = next((one for one in ways if len(tries) == 1 or one not in found), None)
            if item is None and len(tries) > 1:
                break
            found.append(item)
        return found

    def _string(self, schema: Schema, path: Path) -> str:
        least = int(_bound(schema, "minLength", 0))
        most = _bound(schema, "maxLength", math.inf)
        label = _label(schema, path)
        text = self.sentence(label, path)
        if _name(path) in _CODE_NAMES and most == math.inf:
            text = _CODE.format(sentence=text, quote=self._quote(path))
        candidates = [_fit(text, least, most)]
        if (known := _FORMATS.get(schema.get("format", ""))) is not None:
            candidates = [known]
        if isinstance(pattern := schema.get("pattern"), str):
            slug = re.sub(r"[^a-z0-9]+", "-", f"{label} {self._quote(path)}".lower()).strip("-")
            names = [slug, slug.replace("-", "_"), slug.split("-")[0], slug.split("-")[0].title()]
            candidates = [*candidates, _prose(text), *names, *_PLAIN]
            candidates += [_fit(one, least, most) for one in (*names, *_PLAIN)]
            candidates = [one for one in candidates if _matches(pattern, one, path)]
        for text in candidates:
            if least <= len(text) <= most:
                return text
        raise ModelRefused(f"no plain text fits the schema at {_where(path)}")

    def _quote(self, path: Path) -> str:
        start = self._pick(max(1, len(self.words) - _QUOTED_WORDS + 1), (*path, "quote"))
        return " ".join(self.words[start : start + _QUOTED_WORDS]) or "the request"

    def _pick(self, count: int, path: Path) -> int:
        digest = hashlib.sha256(self.seed + "\x1f".join(path).encode())
        return int.from_bytes(digest.digest()[:8]) % count


def _prose(text: str) -> str:
    """The text as one sentence of a few plain words, none of them long."""
    words = [word[:_PROSE_WORD] for word in re.findall(r"[A-Za-z]+", text)]
    return f"{' '.join(words[:_PROSE_WORDS]).capitalize()} as the request asks."


def _integer(schema: Schema, turn: int, path: Path) -> int:
    step = int(_bound(schema, "multipleOf", 1)) or 1
    low, high = _range(schema, step)
    first, last = math.ceil(low / step), math.floor(high / step)
    if first * step == schema.get("exclusiveMinimum"):
        first += 1
    if last * step == schema.get("exclusiveMaximum"):
        last -= 1
    if first > last:
        raise ModelRefused(f"the schema allows no number at {_where(path)}")
    return (first + turn % (last - first + 1)) * step


def _number(schema: Schema, turn: int) -> float:
    step = _bound(schema, "multipleOf", 0)
    low, high = _range(schema, step)
    if step:
        return math.ceil((low + step / 2) / step) * step
    exact = low + (high - low) * (turn + 1) / (_TURNS + 1)  # inside, never at an end
    short = round(exact, 2)
    return short if low < short < high else exact


def _range(schema: Schema, step: float) -> tuple[float, float]:
    lows = [_bound(schema, key, -math.inf) for key in ("minimum", "exclusiveMinimum")]
    highs = [_bound(schema, key, math.inf) for key in ("maximum", "exclusiveMaximum")]
    low, high, span = max(lows), min(highs), max(_USUAL_RANGE, 2 * step)
    if low == -math.inf:
        low = 0.0 if high == math.inf else high - span
    return low, min(high, low + span) if high == math.inf else high


def _fit(text: str, least: int, most: float) -> str:
    """The text repeated up to `least` characters and cut, between words if it can be, at `most`."""
    while text and len(text) < least:
        text = f"{text} {text}"
    if len(text) <= most:
        return text
    cut = text[: int(most)]
    whole = cut.rsplit(" ", 1)[0]
    return whole if least <= len(whole) else cut


def _matches(pattern: str, text: str, path: Path) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error as error:
        raise ModelRefused(f"the schema has a bad pattern at {_where(path)}") from error


def _kind(schema: Schema) -> JsonValue:
    kind = schema.get("type")
    if isinstance(kind, list):
        return next((one for one in kind if one != "null"), "null")
    if kind is None:
        return "object" if "properties" in schema else "array" if "items" in schema else "string"
    return kind


def _merge(schemas: Sequence[Schema]) -> Schema:
    """All of the schemas at once; of what cannot be joined, the last one's."""
    merged: dict[str, JsonValue] = {}
    for schema in schemas:
        properties = {**_mapping(merged.get("properties", {}))}
        properties.update(_mapping(schema.get("properties", {})))
        required = [*_items(merged, "required"), *_items(schema, "required")]
        merged.update(schema)
        if properties:
            merged["properties"] = properties
        if required:
            merged["required"] = required
    return merged


def _mapping(value: JsonValue | Schema) -> Schema:
    return value if isinstance(value, Mapping) else {}


def _items(schema: Schema, key: str) -> list[JsonValue]:
    value = schema.get(key)
    return value if isinstance(value, list) else []


def _bound(schema: Schema, key: str, default: float) -> float:
    value = schema.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default


def _name(path: Path) -> str:
    """The property that the path is at, or in an array of."""
    return next((part for part in reversed(path) if not part.rstrip("+").isdigit()), "")


def _label(schema: Schema, path: Path) -> str:
    title = schema.get("title")
    words = (title if isinstance(title, str) else _name(path)).replace("_", " ").strip()
    return words[:1].upper() + words[1:].lower() or "Answer"


def _where(path: Path) -> str:
    return "/".join(path) or "its top"
