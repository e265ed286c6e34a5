"""The field `system_fingerprint` of an answer: it says itself who computed the answer. Pure.

OpenAI's API has it to show that a model was changed under its name. Here it is written by the
replica that answers, so that no second question has to find that replica again:

    vllm/0.29.0/<SHA-256 of the weights>
    fallback/<provider>/<what the provider put there>
"""

from dataclasses import dataclass
from typing import Final

from actors.model import UNKNOWN, Engine
from bus.answer_receipt import NAME_CHARS

FALLBACK: Final = "fallback"
"""Stands where the engine's name would: the answer came from an outside provider."""
_SHA256_DIGITS: Final = 64
_HEX: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who answered: an engine of the swarm, or a provider in its place."""

    engine: Engine = UNKNOWN
    provider: str = ""


def fingerprint(engine: Engine) -> str:
    """What an engine of the swarm writes into its answers."""
    return f"{engine.name}/{engine.version}/{engine.weights}"


def fallback_fingerprint(provider: str, theirs: object) -> str:
    """What stands in the answer of a provider, with its own fingerprint where it has one."""
    return f"{FALLBACK}/{provider}/{theirs if isinstance(theirs, str) else ''}"


def origin_of(text: str | None) -> Origin:
    """Read a fingerprint; one of another form says nothing but itself, as a version."""
    name, _, rest = (text or "").partition("/")
    middle, separator, last = rest.partition("/")
    if name == FALLBACK and separator:
        return Origin(engine=Engine(version=last[:NAME_CHARS]), provider=middle[:NAME_CHARS])
    if separator and (not last or _is_sha256(last)):
        known = Engine(name=name[:NAME_CHARS], version=middle[:NAME_CHARS], weights=last)
        return Origin(engine=known)
    return Origin(engine=Engine(version=(text or "")[:NAME_CHARS]))


def _is_sha256(text: str) -> bool:
    return len(text) == _SHA256_DIGITS and _HEX.issuperset(text)
