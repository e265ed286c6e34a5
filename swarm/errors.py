"""What can go wrong between a person's program and a swarm.

ClientError             (SwarmError, bus/errors.py)
  NotReachable          retry: no swarm there, or it does not answer
  Unavailable           retry: it answers that a part of it is down
  GatewayFailed         it answers nonsense, or that it has a fault
  NotAuthenticated      the user name, password or token is not accepted
  Refused               it will not do this; the message says why
    NotAllowed          not for this user's role
    NotFound            no such run, approval, dead letter or item of the memory
    Conflict            it makes no sense as things are
      MemoryConflict    somebody else wrote the item in between
    TooManyRequests     not so fast
  MemoryPending         retry: a write stands in the log, and was not looked at yet
  RunNotFinished        retry: there is no result yet
  RunFailed             the run ended without a result
  RunCancelled          a person ended the run
  WaitTimeout           retry: the run is still going on
  SwarmClosed           this client was closed
"""

from collections.abc import Mapping

from bus.errors import SwarmError
from swarm.memory_view import MemoryItem


class ClientError(SwarmError):
    """The swarm could not be used."""

    code = "client_error"


class NotReachable(ClientError):
    """No swarm answers there."""

    code = "not_reachable"
    retryable = True
    hint = "Start one with: swarm up. See what is running with: swarm status."


class Unavailable(ClientError):
    """A part of the swarm is down."""

    code = "unavailable"
    retryable = True
    hint = "See which part it is with: swarm status."

    def __init__(
        self, message: str = "", *, retry_after_s: float | None = None, not_done: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.not_done = not_done


class GatewayFailed(ClientError):
    """The gateway has a fault, or is not a gateway."""

    code = "gateway_failed"


class NotAuthenticated(ClientError):
    """The user name, password or token is not accepted."""

    code = "not_authenticated"
    hint = "Give username and password, or a token from /auth/login."


class Refused(ClientError):
    """The swarm refused the request."""

    code = "refused"

    def __init__(
        self, message: str = "", *, status: int = 400, fields: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.fields = dict(fields or {})
        """What is wrong, by field."""


class NotAllowed(Refused):
    """The user's role does not allow this."""

    code = "not_allowed"


class NotFound(Refused):
    """There is no such run, approval, dead letter or item of the memory."""

    code = "not_found"


class Conflict(Refused):
    """The request makes no sense as things are."""

    code = "conflict"


class MemoryConflict(Conflict):
    """Somebody else wrote the item in between."""

    code = "memory_conflict"
    hint = "Read the item as it is now, and write again with its version as base."

    def __init__(
        self,
        message: str = "",
        *,
        status: int = 409,
        fields: Mapping[str, str] | None = None,
        base: int | None = None,
        current: MemoryItem | None = None,
    ) -> None:
        super().__init__(message, status=status, fields=fields)
        self.base = base
        """The version that the writer saw; 0 for none."""
        self.current = current
        """The item as it is; None if it is gone."""


class TooManyRequests(Refused):
    """Too many requests; wait before the next."""

    code = "too_many_requests"
    retryable = True


class MemoryPending(ClientError):
    """The write stands in the log, and nobody has looked at it yet."""

    code = "memory_pending"
    retryable = True
    hint = "Ask again with the same idempotency key."

    def __init__(self, message: str = "", *, event: str = "") -> None:
        super().__init__(message)
        self.event = event
        """The id of the event that asks for it."""


class RunNotFinished(ClientError):
    """The run has no result yet."""

    code = "run_not_finished"
    retryable = True
    hint = "Wait for it: run.wait()."


class RunFailed(ClientError):
    """The run ended without a result."""

    code = "run_failed"


class RunCancelled(ClientError):
    """A person ended the run."""

    code = "run_cancelled"


class WaitTimeout(ClientError):
    """The run did not end in that time; it goes on."""

    code = "wait_timeout"
    retryable = True
    hint = "Wait again: run.wait(). The swarm has not stopped working on it."


class SwarmClosed(ClientError):
    """This client was closed."""

    code = "swarm_closed"
    hint = "Connect again: Swarm.connect()."
