"""What a witness's answer means for the log that asked; pure."""

import re
from dataclasses import dataclass
from typing import Final

from storage.cosignature import Cosignature, CosignerKey, read_answer
from storage.errors import BadCheckpoint

_SIZE: Final = re.compile(r"(0|[1-9][0-9]{0,18})\n?", re.ASCII)
_REASON_CHARS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a witness was asked: to cosign this checkpoint, grown from the old size."""

    old: int
    size: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigned:
    """It cosigned."""

    cosignature: Cosignature


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """It has cosigned another size last than it was asked to start from."""

    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherBranch:
    """What it cosigned last does not lead to the checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """It did not cosign, and says nothing of the log by that."""

    reason: str


Meaning = Cosigned | Holds | OtherBranch | Failed


def meaning_of(asked: Asked, status: int, body: str, key: CosignerKey) -> Meaning:
    """What an answer of C2SP tlog-witness says; only a cosignature has to be believed.

    Args:
        asked: the request.
        status: of HTTP.
        body: of the answer.
        key: the witness's.
    """
    match status:
        case 200:
            try:
                return Cosigned(cosignature=read_answer(asked.text, body, key))
            except BadCheckpoint as error:
                return Failed(reason=str(error))
        case 409:
            return _conflict(asked, body)
        case 422:
            return OtherBranch()
        case _:
            said = " ".join(body[:_REASON_CHARS].split())
            return Failed(reason=f"It answers {status}: {said}")


def _conflict(asked: Asked, body: str) -> Meaning:
    found = _SIZE.fullmatch(body)
    if found is None:
        return Failed(reason="It answers 409 without the size that it holds.")
    size = int(found[1])
    if size != asked.old:
        return Holds(size=size)
    if asked.old == asked.size:
        return OtherBranch()
    return Failed(reason=f"It holds {size} leaves, as it was told, and answers 409.")
