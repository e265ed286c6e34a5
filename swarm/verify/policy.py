"""A policy document: which roles may publish what. What is not said is denied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from swarm.verify.key import sha256
from swarm.verify.text import NotProven, items, read_json, string


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The patterns of each role, as tokens; ``*`` stands for any one."""

    digest: str
    patterns: Mapping[str, Sequence[Sequence[str]]]

    @classmethod
    def read(cls, document: str) -> Self:
        """Read canonical JSON: ``{"roles": {ROLE: {"publish": [PATTERN, ...]}}, "version": 1}``.

        Raises:
            NotProven: it is not a policy.
        """
        what = "the policy document"
        told = read_json(document.encode(), what)
        roles = told.get("roles")
        if told.get("version") != 1 or not isinstance(roles, dict):
            raise NotProven(f"{what} is not of version 1")
        patterns: dict[str, list[list[str]]] = {}
        for role, rule in roles.items():
            if not isinstance(rule, dict):
                raise NotProven(f"{what} says nothing of the role {role[:64]!r}")
            listed = items(rule.get("publish", []), what)
            patterns[role] = [
                string(pattern, what).replace("{role}", role).split(".") for pattern in listed
            ]
        return cls(digest=sha256(document.encode()).hex(), patterns=patterns)

    def permits(self, role: str, tokens: Sequence[str]) -> bool:
        """Whether the role may publish on a subject with these tokens behind its run."""
        return any(
            len(pattern) == len(tokens)
            and all(
                expected in ("*", token) for expected, token in zip(pattern, tokens, strict=True)
            )
            for pattern in self.patterns.get(role, ())
        )
