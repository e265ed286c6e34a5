"""What the gateway's answers mean, and what the lack of one does."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from swarm.errors import (
    Conflict,
    GatewayFailed,
    MemoryConflict,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    NotReachable,
    Refused,
    TooManyRequests,
    Unavailable,
)
from swarm.memory_view import Clash

Parsed = TypeVar("Parsed", bound=BaseModel)

_ACCEPTED: Final = 300
_NOT_OURS: Final = frozenset({404, *range(500, 600)})
"""Statuses of somebody before the gateway, where no reason stands with them."""
_REFUSALS: Final[Mapping[int, type[Refused]]] = {
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    429: TooManyRequests,
}


class _Field(BaseModel):
    model_config = ConfigDict(extra="ignore")
    field: str
    reason: str


class _Problem(BaseModel):
    """What is read of a refusal (RFC 9457)."""

    model_config = ConfigDict(extra="ignore")
    detail: str = ""
    errors: tuple[_Field, ...] = ()
    conflict: Clash | None = None
    not_done: bool = False


def parse(model: type[Parsed], document: bytes | str) -> Parsed:
    """Read an answer of the gateway.

    Raises:
        GatewayFailed: it is not what this version of the SDK understands.
    """
    try:
        return model.model_validate_json(document)
    except ValidationError as error:
        raise GatewayFailed(f"The gateway's answer is not a {model.__name__}.") from error


async def check(response: httpx.Response) -> None:
    """Raise what a refusal means, in the gateway's own words."""
    status = response.status_code
    if status < _ACCEPTED:
        return
    try:
        problem = _Problem.model_validate_json(await response.aread())
    except ValidationError:
        problem = _Problem()
    message = problem.detail or f"The gateway answered {status} {response.reason_phrase}."
    if status == httpx.codes.UNAUTHORIZED:
        raise NotAuthenticated(message)
    if status == httpx.codes.SERVICE_UNAVAILABLE:
        wait_s = _seconds(response.headers.get("Retry-After"))
        raise Unavailable(message, retry_after_s=wait_s, not_done=problem.not_done)
    if status in _NOT_OURS and not problem.detail:
        # Our gateway gives a reason; without one, whoever stands before it has lost it, or, as
        # Ray Serve's proxy does while a swarm starts again, does not know the way to it yet.
        raise Unavailable(message)
    if httpx.codes.is_client_error(status):
        fields = {entry.field: entry.reason for entry in problem.errors}
        if problem.conflict is not None:
            base, current = problem.conflict.base, problem.conflict.current
            raise MemoryConflict(message, status=status, base=base, current=current)
        raise _REFUSALS.get(status, Refused)(message, status=status, fields=fields)
    raise GatewayFailed(message)


@contextmanager
def translated(url: str) -> Generator[None, None, None]:
    """Turn what httpx raises into the ClientError that it means."""
    try:
        yield
    except (httpx.TimeoutException, TimeoutError) as error:
        raise NotReachable(f"The gateway at {url} did not answer in time.") from error
    except httpx.UnsupportedProtocol as error:
        raise NotReachable(f"{url!r} is not the address of a gateway.") from error
    except httpx.TransportError as error:
        raise NotReachable(f"No gateway answers at {url}.") from error
    except (httpx.RequestError, httpx.StreamError) as error:
        raise GatewayFailed(f"The gateway at {url} broke off: {type(error).__name__}.") from error


def _seconds(retry_after: str | None) -> float | None:
    """Seconds only; the form with a date is not one that our gateway sends."""
    if retry_after is None or not (retry_after.isascii() and retry_after.isdecimal()):
        return None
    return float(retry_after)
