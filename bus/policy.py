"""A policy document as senders and receivers of events need it: who may publish what. Pure.

The document is the canonical JSON that `policies.capabilities` makes of a bundle. Its digest
is the hex SHA-256 of exactly these bytes, and stands in every event. What else the document
says is for others to read; what it does not say is denied.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from bus.errors import MalformedPolicy
from bus.subjects import Subject

VERSION: Final = 1
_ANY: Final = "*"
_OWN_ROLE: Final = "{role}"
_KIND_WORDS: Final = 2

_Rules = Mapping[str, tuple[tuple[tuple[str, ...], str], ...]]
"""Suffixes and the patterns that they are of, by the kind that they stand behind."""
_NOTHING: Final[_Rules] = {}


class PublishRules:
    """What each role may publish under one policy document. Unknown roles may publish nothing."""

    def __init__(self, document: str) -> None:
        """Read a document.

        Raises:
            MalformedPolicy: it is not JSON of the form that this version knows.
        """
        self.document: Final = document
        self.digest: Final = digest_of(document)
        self._rules: Final = {
            role: _compiled(role, _texts(rule, "publish"))
            for role, rule in _roles_in(document).items()
        }

    def refusal(self, role: str, subject: Subject) -> str | None:
        """Why the role may not publish on the subject, None if it may."""
        if self.allowing(role, subject) is not None:
            return None
        if role not in self._rules:
            return f"role {role!r} has no capabilities"
        wanted = ".".join((subject.kind, *subject.suffix))
        return f"role {role!r} has no capability to publish {wanted}"

    def allowing(self, role: str, subject: Subject) -> str | None:
        """The pattern by which the role may publish on the subject, None if it may not."""
        suffix = subject.suffix
        for expected, pattern in self._rules.get(role, _NOTHING).get(subject.kind, ()):
            if expected == suffix or _matches(expected, suffix):
                return pattern
        return None


def digest_of(document: str) -> str:
    """Hex SHA-256 of a document: what ce-policy holds."""
    return hashlib.sha256(document.encode()).hexdigest()


def _roles_in(document: str) -> Mapping[str, Mapping[str, JsonValue]]:
    try:
        told = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise MalformedPolicy("the policy document is not JSON") from error
    roles = told.get("roles") if isinstance(told, dict) else None
    if not isinstance(roles, dict) or told.get("version") != VERSION:
        raise MalformedPolicy(f"the policy document is not of version {VERSION}")
    for role, rule in roles.items():
        if not isinstance(rule, dict):
            raise MalformedPolicy(f"the policy document says nothing of role {role[:64]!r}")
    return roles


def _texts(rule: Mapping[str, JsonValue], name: str) -> tuple[str, ...]:
    listed = rule.get(name, [])
    if not isinstance(listed, list):
        raise MalformedPolicy(f"{name} is not a list in the policy document")
    texts = tuple(each for each in listed if isinstance(each, str))
    if len(texts) < len(listed):
        raise MalformedPolicy(f"{name} holds something else than texts in the policy document")
    return texts


def _compiled(role: str, patterns: tuple[str, ...]) -> _Rules:
    rules: dict[str, tuple[tuple[tuple[str, ...], str], ...]] = {}
    for pattern in patterns:
        words = pattern.replace(_OWN_ROLE, role).split(".")
        kind, suffix = ".".join(words[:_KIND_WORDS]), tuple(words[_KIND_WORDS:])
        rules[kind] = (*rules.get(kind, ()), (suffix, pattern))
    return rules


def _matches(expected: tuple[str, ...], suffix: tuple[str, ...]) -> bool:
    return len(expected) == len(suffix) and all(
        word in (_ANY, token) for word, token in zip(expected, suffix, strict=True)
    )
