"""Reading what was used up of the models, by whom and where; see storage/usage_rows.py."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

from storage.postgres import Pool, translated

Part = Literal["user", "api_key", "day", "model", "task", "run", "role", "agent"]
"""What totals can be told apart by."""
_COLUMNS: Final[dict[Part, str]] = {
    "user": "user_id",
    "api_key": "api_key",
    "day": "day",
    "model": "model",
    "task": "task",
    "run": "run",
    "role": "role",
    "agent": "agent",
}
MOST_TOTALS: Final = 10_000
MOST: Final = 10**15
"""A total goes no higher. What agents say that they used is theirs to say, up to the largest number
of a column: what is added to it would not fit into one."""
_SPENT: Final = f"""
select (select stream_sequence from audit_head) as stream_sequence,
       least(coalesce(sum(prompt_tokens::numeric + completion_tokens), 0), {MOST})::bigint as tokens
from model_usage
where user_id = $1 and day = $2 and run = '' and not event_id = any($3::text[])
"""  # noqa: S608  # nosec B608 - a number of ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Of what totals are wanted; None is of any.

    Attributes:
        user: by id.
        run: the empty one is what was asked through the gateway.
        since: the first day, in UTC.
        until: the last day.
    """

    since: date
    until: date
    user: str | None = None
    run: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """What was used up by one user, on one day, and so on: by the parts that were asked for."""

    parts: dict[Part, str]
    questions: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a user has used up of a day, as far as the audit log has come.

    Attributes:
        tokens: read and written.
        stream_sequence: of the last event that is in the audit log.
    """

    tokens: int
    stream_sequence: int


class UsageReader:
    """Reads usage; every method may raise StorageUnavailable.

    Args:
        pool: the database, migrated.
        deadline_s: for each call, the wait for a connection included.
    """

    def __init__(self, pool: Pool, *, deadline_s: float = 10.0) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def totals(self, scope: Scope, by: Sequence[Part]) -> tuple[Total, ...]:
        """Totals of what is in the scope, told apart by the parts and in their order.

        At most MOST_TOTALS and one more, which says that there are others.
        """
        columns = [_COLUMNS[part] for part in dict.fromkeys(by)]
        listed = "".join(f"{column}::text, " for column in columns)
        grouped = ""
        if columns:
            numbers = ", ".join(str(n + 1) for n in range(len(columns)))
            grouped = f"group by {', '.join(columns)} order by {numbers}"
        statement = f"""
            select {listed} count(*) as questions,
                   least(coalesce(sum(prompt_tokens), 0), {MOST})::bigint as prompt_tokens,
                   least(coalesce(sum(completion_tokens), 0), {MOST})::bigint as completion_tokens
            from model_usage
            where day between $1 and $2 and ($3::text is null or user_id = $3)
                and ($4::text is null or run = $4)
            {grouped} limit {MOST_TOTALS + 1}
        """  # noqa: S608  # nosec B608 - of the names above only
        with translated("read what was used up"):
            async with asyncio.timeout(self._deadline_s):
                rows = await self._pool.fetch(
                    statement, scope.since, scope.until, scope.user, scope.run
                )
        return tuple(
            Total(
                parts={part: row[_COLUMNS[part]] for part in by},
                questions=row["questions"],
                prompt_tokens=row["prompt_tokens"],
                completion_tokens=row["completion_tokens"],
            )
            for row in rows
        )

    async def spent(self, user: str, day: date, *, but: Collection[str] = ()) -> Spent:
        """What a user has used up of a day by asking the gateway.

        Args:
            user: by id.
            day: in UTC.
            but: ids of events that are not counted.
        """
        with translated("read what a user has used up"):
            async with asyncio.timeout(self._deadline_s):
                row = await self._pool.fetchrow(_SPENT, user, day, list(but))
        if row is None:
            return Spent(tokens=0, stream_sequence=0)
        return Spent(tokens=row["tokens"], stream_sequence=row["stream_sequence"])
