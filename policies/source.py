"""A YAML text, and on which line of it each value stands. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import yaml

from policies.errors import PolicyNotUsable

MAX_SOURCE_BYTES: Final = 200_000
"""So that the document made of it goes into one event."""
_MAX_DEPTH: Final = 12
_MAX_VALUES: Final = 50_000
"""Aliases count as what they stand for."""

Place = tuple[int | str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What the text says, and where."""

    content: Any
    lines: Mapping[Place, int] = field(repr=False)

    @classmethod
    def read(cls, text: bytes) -> Self:
        """Read a text.

        Raises:
            PolicyNotUsable: it is too long, no YAML of plain values, or says something twice.
        """
        if len(text) > MAX_SOURCE_BYTES:
            raise PolicyNotUsable(f"the policy bundle is over {MAX_SOURCE_BYTES} bytes")
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            lines: dict[Place, int] = {}
            for number, (place, line) in enumerate(_walk(root, ())):
                if number > _MAX_VALUES or len(place) > _MAX_DEPTH:
                    raise PolicyNotUsable(f"line {line}: the policy bundle is nested too deeply")
                lines.setdefault(place, line)
            return cls(content=yaml.safe_load(text), lines=lines)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise PolicyNotUsable(f"the policy bundle is not YAML: {error}") from error

    def line_of(self, place: Sequence[int | str]) -> int:
        """The line of a value, or of the nearest one around it that is there."""
        for length in range(len(place), -1, -1):
            line = self.lines.get(tuple(place[:length]))
            if line is not None:
                return line
        return 1


def _walk(node: yaml.Node | None, place: Place) -> Iterator[tuple[Place, int]]:
    if node is None:
        return
    yield place, node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for number, each in enumerate(node.value):
            yield from _walk(each, (*place, number))
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in seen:
                raise PolicyNotUsable(f"line {line}: {name[:64]!r} is said twice")
            seen.add(name)
            yield (*place, name), line
            yield from _walk(value, (*place, name))
