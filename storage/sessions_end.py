"""The end of a user's sessions that comes with a change of the user, in one transaction.

Whoever is given another password, or is barred, is logged out. Were the two done one after the
other, a failure between them would leave sessions that no longer should be, and a caller who
cannot say it again: the old password is wrong by then.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

END: Final = """
update sessions set revoked_at = $2, revoked_because = $3
where user_id = $1 and revoked_at is null and expires_at > $2 and id is distinct from $4
"""
"""Its values are what `SessionsEnd.values` gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsEnd:
    """All sessions of a user end, but for one.

    Attributes:
        because: why.
        now: the time.
        but: the session that goes on.
    """

    because: Literal["password", "disabled"]
    now: datetime
    but: UUID | None = None

    def values(self, user_id: UUID) -> tuple[UUID, datetime, str, UUID | None]:
        """The values of the statement for that user."""
        return (user_id, self.now, self.because, self.but)
