"""Ray actors of the swarm: names, restarts and life cycle around the plain classes.

Nothing here hands over work. A shell starts its member when Ray makes the actor, also
after a crash; `ready` tells when it serves, `stop` ends it cleanly. A member that fails
takes its process down, so that Ray starts a new one, with a new key and a new chain.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final

import ray
import structlog
from ray.actor import ActorHandle

from actors.member import Domain, Enrolment
from bus.logs import configure_logs

log = structlog.get_logger()

NAMESPACE: Final = "swarm"
AUTHORITY: Final = "authority"
STOP_DEADLINE_S: Final = 10.0

Ready = Callable[[], None]
Body = Callable[[Ready], Coroutine[None, None, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """All that a member needs to join."""

    domain: Domain
    enrolment: Enrolment


class Life:
    """Runs a member's body in the background, from construction to `stop`."""

    def __init__(self, name: str, body: Body, die: Callable[[int], None] = os._exit) -> None:
        """Start the body in the running event loop.

        Args:
            name: for the log.
            body: serves until cancelled; calls what it is given once it does.
            die: ends the process when the body fails.
        """
        self._name = name
        self._die = die
        self._ready = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._live(body))

    async def ready(self) -> None:
        """Return once the member serves."""
        await self._ready.wait()

    async def stop(self) -> None:
        """End the member; returns when it has said farewell.

        Raises:
            TimeoutError: it did not end within the deadline.
        """
        async with asyncio.timeout(STOP_DEADLINE_S):
            while not self._task.done():
                # Again each second: asyncio.wait_for, which libraries use, may lose a
                # cancellation on Python 3.11.
                self._task.cancel()
                await asyncio.wait((self._task,), timeout=1.0)

    async def _live(self, body: Body) -> None:
        try:
            await body(self._ready.set)
        except Exception:
            log.exception("member.failed", member=self._name)
            self._die(1)


class MemberActor:
    """What every Ray actor of the swarm has: `ready`, `stop`, and a name to be known by."""

    def __init__(self, membership: Membership) -> None:
        configure_logs()
        self.membership = membership
        self._life = Life(str(self), self.body)

    def __repr__(self) -> str:
        return self.membership.enrolment.name

    async def body(self, ready: Ready) -> None:
        """Join, call `ready`, and serve until cancelled."""
        raise TypeError(f"{type(self).__name__} does not say when it is ready: {ready}")

    async def serve_until_stopped(self) -> None:
        """Wait for the cancellation that `stop` brings."""
        await asyncio.Event().wait()

    @ray.method
    async def ready(self) -> None:
        """Return once the member serves."""
        await self._life.ready()

    @ray.method
    async def stop(self) -> None:
        """End the member cleanly."""
        await self._life.stop()


async def issue(enrolment: Enrolment, public_key: str) -> str:
    """Ask the authority of this Ray cluster for a credential.

    Raises:
        EnrolmentRefused: the enrolment was not granted by this authority.
    """
    jwt: str = await (await _authority()).issue.remote(enrolment, public_key)
    return jwt


async def unlock(
    enrolment: Enrolment,
    public_key: str,
    subject: str,
    to_seal: bool,  # noqa: FBT001 - of type Unlock
) -> bytes | None:
    """Ask the authority of this Ray cluster for a person's key, in a box for the public key.

    Raises:
        EnrolmentRefused: the enrolment was not granted by this authority.
        ConsumptionDenied: the policy does not give the role any.
    """
    box: bytes | None = await (await _authority()).unlock.remote(
        enrolment, public_key, subject, to_seal
    )
    return box


async def _authority() -> ActorHandle[object]:
    return await asyncio.to_thread(ray.get_actor, AUTHORITY, namespace=NAMESPACE)
