"""When an event was first stored, for one that was put back: the root says so.

A stream that is made anew gives every event a new time, at which the credential of its sender
has long ended. What the audit log accepted at its own time is put back with a receipt: that
time, signed by the root together with the event's digest and its place.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from bus.errors import BadSignature, IdentityError, MalformedEvent
from bus.event import Event, pre_authentication_encoding
from bus.nkey import AgentKey, decode_base64url, encode_base64url, verify_signature

RECEIPT_HEADER: Final = "swarm-receipt"
_DOMAIN: Final = b"vllm-swarm/receipt/v1"


def receipt(root: AgentKey, event: Event, stream_sequence: int, stored_at: datetime) -> str:
    """Say when an event was first stored that is put back on a place."""
    moment = stored_at.astimezone(UTC).isoformat()
    signature = root.sign(_statement(event, stream_sequence, moment))
    return f"{moment},{encode_base64url(signature)}"


def first_stored(
    text: str, event: Event, stream_sequence: int, roots: Iterable[str]
) -> datetime | None:
    """What a receipt says; None if none of the roots signed it for this event on this place."""
    moment, _, signature = text.partition(",")
    try:
        signed = decode_base64url(signature, length=64)
        stored_at = datetime.fromisoformat(moment).astimezone(UTC)
    except (MalformedEvent, ValueError, OverflowError):
        return None
    statement = _statement(event, stream_sequence, moment)
    return stored_at if any(_is_signed(root, statement, signed) for root in roots) else None


def _statement(event: Event, stream_sequence: int, moment: str) -> bytes:
    place = str(stream_sequence).encode()
    return pre_authentication_encoding(_DOMAIN, place, event.digest, moment.encode())


def _is_signed(root: str, statement: bytes, signature: bytes) -> bool:
    try:
        verify_signature(root, statement, signature)
    except (BadSignature, IdentityError):
        return False
    return True
