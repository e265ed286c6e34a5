"""What each role may do: read from capabilities.yaml, enforced three times.

The sender asks `refusal` before it signs, the broker enforces what `permissions`
compiles to, and the receiver asks `refusal` again. All three come from one file,
whose digest is in every event.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Annotated, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bus.identity import Permissions
from bus.reference import ALL_OBJECTS, OBJECTS
from bus.subjects import ALL_EVENTS, STREAM, Subject
from policies.errors import PolicyNotUsable

_API: Final = "$JS.API"
# A consumer is made by the subject that names it, never by the one that leaves the name to
# the body: the broker could not tell there whose consumer it is.
_READ_LOG: Final = (
    f"{_API}.INFO",
    f"{_API}.STREAM.NAMES",
    f"{_API}.STREAM.INFO.{STREAM}",
    f"{_API}.CONSUMER.CREATE.{STREAM}.>",
    f"{_API}.CONSUMER.INFO.{STREAM}.>",
    f"{_API}.CONSUMER.MSG.NEXT.{STREAM}.>",
    f"$JS.FC.{STREAM}.>",
)
_PROVISION: Final = (
    f"{_API}.STREAM.CREATE.{STREAM}",
    f"{_API}.STREAM.UPDATE.{STREAM}",
    f"{_API}.STREAM.INFO.{STREAM}",
    f"{_API}.STREAM.PURGE.{STREAM}",
    *(f"{_API}.STREAM.{verb}.{OBJECTS}" for verb in ("CREATE", "UPDATE", "INFO", "PURGE")),
    f"{_API}.CONSUMER.CREATE.{STREAM}.>",
    f"{_API}.CONSUMER.INFO.{STREAM}.>",
)


_ROLE_NAME = re.compile(r"[a-z]{1,64}\Z")

RoleName = Annotated[str, Field(pattern=r"^[a-z]{1,64}$")]
Pattern = Annotated[str, Field(pattern=r"^[a-z]+\.[a-z]+(\.(\*|\{role\}|[A-Za-z0-9_-]+))*$")]


class Capability(BaseModel):
    """What one role may do. What is not said is denied."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    publish: tuple[Pattern, ...] = ()
    work: bool = False
    read: bool = False
    provision: bool = False
    personal_inbox: bool = True


class Bundle(BaseModel):
    """The policy file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: Annotated[int, Field(ge=1, le=1)]
    roles: Mapping[RoleName, Capability]


class Capabilities:
    """A policy bundle, ready to be asked. Unknown roles may do nothing.

    Attributes:
        document: canonical JSON of the bundle: UTF-8, keys sorted, no white space.
        digest: hex SHA-256 of the document.
    """

    def __init__(self, source: bytes) -> None:
        """Read a bundle.

        Raises:
            PolicyNotUsable: not YAML, or not of the form that `Bundle` describes.
        """
        try:
            self._bundle = Bundle.model_validate(yaml.safe_load(source))
        except (yaml.YAMLError, ValidationError) as error:
            raise PolicyNotUsable(f"the policy bundle cannot be used: {error}") from error
        told = self._bundle.model_dump(mode="json")
        self.document: Final = json.dumps(
            told, ensure_ascii=False, sort_keys=True, separators=(",", ":")
        )
        self.digest: Final = hashlib.sha256(self.document.encode()).hexdigest()

    @classmethod
    def shipped(cls, extra_workers: Iterable[str] = ()) -> "Capabilities":
        """The bundle that comes with the package, with more roles that may do what an agent may.

        The same roles in any order give the same bundle, and so the same digest.

        Raises:
            PolicyNotUsable: an extra role is no role name, or is in the bundle already.
        """
        source = resources.files("policies").joinpath("capabilities.yaml").read_bytes()
        extra = sorted(set(extra_workers))
        if not extra:
            return cls(source)
        taken = sorted(set(cls(source).roles) & set(extra))
        if taken:
            raise PolicyNotUsable(f"role {taken[0]!r} is in the policy bundle already")
        wrong = [role for role in extra if not is_role_name(role)]
        if wrong:
            raise PolicyNotUsable(f"{wrong[0][:64]!r} cannot name a role: use 1 to 64 of a-z")
        lines = "".join(f'  "{role}": *agent\n' for role in extra)
        return cls(source.rstrip() + b"\n" + lines.encode())

    @property
    def roles(self) -> tuple[str, ...]:
        """Every role of the bundle."""
        return tuple(self._bundle.roles)

    @property
    def worker_roles(self) -> tuple[str, ...]:
        """Roles that take assignments from a queue."""
        return tuple(role for role, can in self._bundle.roles.items() if can.work)

    def refusal(self, role: str, subject: Subject) -> str | None:
        """Why the role may not publish on the subject, None if it may."""
        capability = self._bundle.roles.get(role)
        if capability is None:
            return f"role {role!r} has no capabilities"
        wanted = (*subject.kind.split("."), *subject.suffix)
        for pattern in _own(role, capability.publish):
            if _matches(pattern.split("."), wanted):
                return None
        return f"role {role!r} has no capability to publish {'.'.join(wanted)}"

    def permissions(self, role: str, public_key: str) -> Permissions:
        """What the broker lets a connection of the role do; nothing for an unknown role."""
        capability = self._bundle.roles.get(role)
        if capability is None:
            return Permissions(publish=(), subscribe=())
        publish = [f"evt.*.*.{pattern}" for pattern in _own(role, capability.publish)]
        if publish:
            publish.append(f"obj.*.{public_key}.*.*")
        publish += [f"{_API}.DIRECT.GET.{STREAM}", f"{_API}.DIRECT.GET.{STREAM}.{ALL_EVENTS}"]
        publish.append(f"{_API}.DIRECT.GET.{OBJECTS}.{ALL_OBJECTS}")
        if capability.work:
            queue = queue_name(role)
            publish += [
                f"{_API}.CONSUMER.MSG.NEXT.{STREAM}.{queue}",
                f"{_API}.CONSUMER.INFO.{STREAM}.{queue}",
                f"$JS.ACK.{STREAM}.{queue}.>",
            ]
        if capability.read:
            publish += _READ_LOG
        if capability.provision:
            publish += _PROVISION
        inbox = inbox_prefix(public_key) if capability.personal_inbox else "_INBOX"
        return Permissions(
            publish=publish,
            subscribe=[f"{inbox}.>"],
            deny_publish=() if capability.provision else self._others_queues(role),
        )

    def _others_queues(self, role: str) -> list[str]:
        """A reader may make consumers of its own, but not touch the queues of others."""
        queues = [queue_name(worker) for worker in self.worker_roles if worker != role]
        return [
            f"{_API}.CONSUMER.{verb}.{STREAM}.{queue}{rest}"
            for queue in queues
            for verb, rest in (("MSG.NEXT", ""), ("CREATE", ""), ("CREATE", ".>"))
        ]


def is_role_name(text: str) -> bool:
    """Whether the text can name a role."""
    return _ROLE_NAME.match(text) is not None


def queue_name(role: str) -> str:
    """The durable consumer that all agents of a role share."""
    return f"work-{role}"


def inbox_prefix(public_key: str) -> str:
    """Where replies to one connection go; no other credential may subscribe there."""
    return f"_INBOX_{public_key}"


def _own(role: str, patterns: tuple[str, ...]) -> list[str]:
    return [pattern.replace("{role}", role) for pattern in patterns]


def _matches(pattern: list[str], tokens: tuple[str, ...]) -> bool:
    return len(pattern) == len(tokens) and all(
        expected in ("*", token) for expected, token in zip(pattern, tokens, strict=True)
    )
