"""Every vector of a local index, compared with the one that is looked for: exact, in memory.

Qdrant's local mode looks at each point in Python: at 20 thousand points a filtered search
took it 350 ms on two cores, and this 2 ms (docs/adr/0034).
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
Group: TypeAlias = tuple[str, str]
"""Tenant and namespace."""

_FIRST_ROWS: Final = 1_024
_NOBODY: Final = -1
_FEW: Final = 0.25
"""Share of the rows up to which those are gathered before they are compared."""


class ExactVectors:
    """Unit vectors by id, each in a group. Not for use by several threads at once.

    Args:
        dimensions: numbers of a vector.
    """

    def __init__(self, dimensions: int) -> None:
        self._rows: Floats = np.zeros((_FIRST_ROWS, dimensions), dtype=np.float32)
        self._group_of = np.full(_FIRST_ROWS, _NOBODY, dtype=np.int64)
        self._ids: list[str | None] = [None] * _FIRST_ROWS
        self._row_of: dict[str, int] = {}
        self._free = list(range(_FIRST_ROWS - 1, -1, -1))
        self._groups: dict[Group, int] = {}

    def __len__(self) -> int:
        return len(self._row_of)

    def put(self, point: str, group: Group, vector: Sequence[float]) -> None:
        """Add a vector, or give the one with that id another group and value."""
        row = self._row_of.get(point)
        if row is None:
            if not self._free:
                self._grow()
            row = self._free.pop()
            self._row_of[point] = row
            self._ids[row] = point
        self._rows[row] = _unit(np.asarray(vector, dtype=np.float32))
        self._group_of[row] = self._groups.setdefault(group, len(self._groups))

    def drop(self, point: str) -> None:
        """Remove a vector, if it is there."""
        row = self._row_of.pop(point, None)
        if row is not None:
            self._group_of[row] = _NOBODY
            self._ids[row] = None
            self._free.append(row)

    def nearest(
        self, vector: Sequence[float], *, within: Callable[[Group], bool], limit: int
    ) -> list[tuple[str, float]]:
        """The ids whose vectors have the smallest angle to one, with the cosine, best first.

        Args:
            vector: of any length.
            within: which groups to look at.
            limit: most ids.
        """
        wanted = np.zeros(len(self._groups) + 1, dtype=bool)  # the last is that of nobody
        wanted[[number for group, number in self._groups.items() if within(group)]] = True
        rows = np.flatnonzero(wanted[self._group_of])
        if not len(rows):
            return []
        asked = _unit(np.asarray(vector, dtype=np.float32))
        if len(rows) < _FEW * len(self._rows):
            scores = self._rows[rows] @ asked
        else:
            scores = (self._rows @ asked)[rows]
        best = rows_best(scores, limit)
        return [(str(self._ids[rows[at]]), float(scores[at])) for at in best]

    def _grow(self) -> None:
        old = len(self._rows)
        self._rows = np.concatenate((self._rows, np.zeros_like(self._rows)))
        self._group_of = np.concatenate((self._group_of, np.full(old, _NOBODY, dtype=np.int64)))
        self._ids += [None] * old
        self._free = list(range(2 * old - 1, old - 1, -1))


def rows_best(scores: Floats, limit: int) -> list[int]:
    """Where the highest scores are, the highest first."""
    if len(scores) > limit:
        best = np.argpartition(scores, -limit)[-limit:]
    else:
        best = np.arange(len(scores))
    ordered: list[int] = best[np.argsort(-scores[best], kind="stable")].tolist()
    return ordered


def _unit(vector: Floats) -> Floats:
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector
