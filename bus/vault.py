"""What is personal, sealed on its way into the log and opened on its way out."""

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, Protocol, TypeVar

import structlog

from bus.errors import SealingFailed, SubjectKeyRefused, SubjectKeyUnavailable
from bus.event import Draft, Event, sealing_binding
from bus.payloads import payload_model
from bus.sealing import opened_body

log = structlog.get_logger()

LARGE_BYTES: Final = 64 * 1024
P = ParamSpec("P")
T = TypeVar("T")


class SubjectKeys(Protocol):
    """Where the keys of the persons are that the log says something about."""

    async def key_of(self, subject: str, *, to_seal: bool = False) -> bytes | None:
        """The person's key, 32 bytes.

        None if it was destroyed, or if there never was one and it is not asked for to seal
        something under it.

        Raises:
            SubjectKeyUnavailable: nobody answers; ask again.
            SubjectKeyRefused: it is not given to this member, or cannot be read.
        """
        ...


class Vault:
    """Seals and opens for one member, as far as it is given keys."""

    def __init__(self, keys: SubjectKeys | None) -> None:
        """Take the keys; without any, nothing is sealed and what is sealed stays so."""
        self._keys = keys

    async def sealed(self, draft: Draft) -> Draft:
        """The draft, with what is personal sealed for whom it is about.

        Of a person who is forgotten, nothing personal is kept.

        Raises:
            SealingFailed: the key is not to be had now; nothing may be stored without it.
        """
        subject = draft.about
        if self._keys is None or not subject:
            return draft
        try:
            key = await self._keys.key_of(subject, to_seal=True)
        except (SubjectKeyUnavailable, SubjectKeyRefused) as error:
            raise SealingFailed(f"{draft.payload.TYPE} of run {draft.run}: {error}") from error
        return await _off_the_loop(len(draft.plain), draft.sealed_under, key)

    async def keeps(self, subject: str) -> bool:
        """Whether what is personal of a person is kept: not if that person is forgotten.

        Raises:
            SubjectKeyUnavailable: nobody answers; ask again.
        """
        return self._keys is None or await self._keys.key_of(subject, to_seal=True) is not None

    async def opened(self, event: Event) -> Event:
        """The event with what was sealed, or marked as erased if that is for good.

        Where the key is refused it stays sealed, and somebody is told.

        Raises:
            MalformedEvent: it was not sealed under that person's key for that event.
            SubjectKeyUnavailable: the key is not to be had now.
        """
        subject = event.sealed_for
        if self._keys is None or subject is None:
            return event
        try:
            key = await self._keys.key_of(subject)
        except SubjectKeyRefused as error:
            log.error("event.stays_sealed", run=event.run, type=event.type, reason=str(error))
            return event
        if key is None:
            return event.with_opened(None)
        return await _off_the_loop(len(event.stored_body), _opened, event, key)


def _opened(event: Event, key: bytes) -> Event:
    binding = sealing_binding(event.run, event.type, event.id)
    body = opened_body(event.stored_body, payload_model(event.type), key, binding=binding)
    return event.with_opened(body)


async def _off_the_loop(
    size_bytes: int, work: Callable[P, T], *args: P.args, **named: P.kwargs
) -> T:
    """Do it here, unless it takes so long that others would notice."""
    if size_bytes <= LARGE_BYTES:
        return work(*args, **named)
    return await asyncio.to_thread(work, *args, **named)
