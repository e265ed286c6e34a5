"""What each role may do: read from capabilities.yaml, enforced three times.

The sender asks `refusal` before it signs, the broker enforces what `permissions`
compiles to, and the receiver asks `refusal` again. All three come from one bundle,
whose digest is in every event.
"""

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import resources
from typing import Final, Literal
from unicodedata import normalize

from bus.identity import Permissions
from bus.policy import PublishRules
from bus.reference import ALL_OBJECTS, OBJECTS
from bus.signing import Consumption
from bus.subjects import ALL_EVENTS, STREAM, Subject, is_token
from policies.bundle import ANY, Bundle, Capability, PeopleRule, Price, Spend, read_bundle
from policies.errors import PolicyNotUsable

_API: Final = "$JS.API"
_REST: Final = "**"
_RUN: Final = "{run}"
_USER: Final = "{user}"
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

Callee = Literal["model", "tool"]
MemoryAccess = Literal["read", "write"]


class Capabilities:
    """A policy bundle, ready to be asked. Unknown roles may do nothing.

    Attributes:
        document: canonical JSON of the bundle: UTF-8, keys sorted, no white space. The same
            permissions make the same document, however they were written.
        digest: hex SHA-256 of the document.
    """

    def __init__(self, source: bytes, extra_workers: Iterable[str] = ()) -> None:
        """Read a bundle, or the document of one.

        Args:
            source: YAML.
            extra_workers: roles besides those of the bundle, under its rule `agent`. The same
                ones in any order make the same document.

        Raises:
            PolicyNotUsable: not YAML, or not of the form that `Bundle` describes; or an extra
                role is no role name, or is in the bundle already.
        """
        extra = tuple(sorted(set(extra_workers)))
        wrong = [role for role in extra if not is_role_name(role)]
        if wrong:
            raise PolicyNotUsable(f"{wrong[0][:64]!r} cannot name a role: use 1 to 64 of a-z")
        self._bundle = read_bundle(source).with_workers(extra)
        self._rules = PublishRules(_canonical(self._bundle))
        self.document: Final = self._rules.document
        self.digest: Final = self._rules.digest

    @classmethod
    def shipped(cls, extra_workers: Iterable[str] = ()) -> "Capabilities":
        """The bundle that comes with the package, with more roles that may do what an agent may.

        Raises:
            PolicyNotUsable: an extra role is no role name, or is in the bundle already.
        """
        return cls(shipped_source(), extra_workers)

    @classmethod
    def of(cls, bundle: str, workers: Iterable[str] = ()) -> "Capabilities":
        """A bundle of one's own, or the shipped one if that is empty, for these workers as well.

        A worker that a bundle of one's own has a rule for is under that rule.

        Raises:
            PolicyNotUsable: the bundle cannot be read, or a worker has the name of a role that
                takes no assignments.
        """
        if not bundle:
            return cls.shipped(workers)
        source = bundle.encode()
        own = cls(source).worker_roles
        return cls(source, (role for role in workers if role not in own))

    @property
    def roles(self) -> tuple[str, ...]:
        """Every role of the bundle."""
        return tuple(self._bundle.roles)

    @property
    def worker_roles(self) -> tuple[str, ...]:
        """Roles that take assignments from a queue."""
        return tuple(role for role, can in self._bundle.roles.items() if can.work)

    @property
    def prices(self) -> Mapping[str, Price]:
        """What models cost, by name."""
        return self._bundle.prices

    @property
    def people(self) -> PeopleRule:
        """What people may use up."""
        return self._bundle.people

    def tokens_per_day(self, username: str) -> int | None:
        """What a person may use up of the models in a day; None for no limit."""
        rule = self._bundle.people
        name = normalize("NFKC", normalize("NFKC", username).casefold())
        limit = rule.named.get(name, rule.tokens_per_day)
        return limit if isinstance(limit, int) else None

    def capability(self, role: str) -> Capability | None:
        """All that is said of a role, None for one that is not known."""
        return self._bundle.roles.get(role)

    def refusal(self, role: str, subject: Subject) -> str | None:
        """Why the role may not publish on the subject, None if it may."""
        return self._rules.refusal(role, subject)

    def publish_rule(self, role: str, subject: Subject) -> str | None:
        """The pattern by which the role may publish on the subject, None if it may not."""
        return self._rules.allowing(role, subject)

    def may_unseal(self, role: str) -> bool:
        """Whether the role is given the keys of people, to read and say what is personal."""
        capability = self.capability(role)
        return capability is not None and (capability.unseal or capability.work)

    def consumption_refusal(self, role: str, what: Consumption) -> str | None:
        """Why the role may not take work from its queue, or read every event."""
        capability = self.capability(role)
        if capability is None:
            return f"role {role!r} has no capabilities"
        if capability.work if what == "work" else capability.read:
            return None
        wanted = "take assignments" if what == "work" else "read the log"
        return f"role {role!r} has no capability to {wanted}"

    def call_refusal(self, role: str, what: Callee, name: str) -> str | None:
        """Why the role may not call the model or the tool."""
        capability = self.capability(role)
        if capability is None:
            return f"role {role!r} has no capabilities"
        names = capability.call.models if what == "model" else capability.call.tools
        if call_rule(names, name) is not None:
            return None
        return f"role {role!r} has no capability to call {what} {name[:200]!r}"

    def memory_refusal(
        self, role: str, access: MemoryAccess, namespace: str, *, run: str = "", user: str = ""
    ) -> str | None:
        """Why the role may not read or write the namespace while it works for the run of a user."""
        capability = self.capability(role)
        if capability is None:
            return f"role {role!r} has no capabilities"
        rules = getattr(capability.memory, access)
        if namespace_rule(rules, role, namespace, run, user) is not None:
            return None
        return f"role {role!r} has no capability to {access} memory {namespace[:256]!r}"

    def spend(self, role: str) -> Spend:
        """What the role may use up; nothing for one that is not known."""
        capability = self.capability(role)
        return Spend() if capability is None else capability.spend

    def permissions(self, role: str, public_key: str) -> Permissions:
        """What the broker lets a connection of the role do; nothing for an unknown role."""
        capability = self._bundle.roles.get(role)
        if capability is None:
            return Permissions(publish=(), subscribe=())
        publish = [f"evt.*.*.{each.replace('{role}', role)}" for each in capability.publish]
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


def shipped_source() -> bytes:
    """The text of the bundle that comes with the package."""
    return resources.files("policies").joinpath("capabilities.yaml").read_bytes()


def call_rule(rules: Iterable[str], name: str) -> str | None:
    """The first rule by which the name may be called, None where there is none."""
    return next((rule for rule in rules if rule in (ANY, name)), None)


def namespace_rule(
    rules: Iterable[str], role: str, namespace: str, run: str, user: str = ""
) -> str | None:
    """The first rule that a namespace is of, None where it is of none."""
    parts = tuple(namespace.split("/"))
    if not all(map(is_token, parts)):
        return None
    return next((rule for rule in rules if _covers(_words(rule, role), parts, run, user)), None)


@lru_cache(maxsize=1_024)
def _words(rule: str, role: str) -> tuple[str, ...]:
    return tuple(rule.replace("{role}", role).split("/"))


def _covers(rule: tuple[str, ...], parts: tuple[str, ...], run: str, user: str) -> bool:
    if rule[-1] == _REST:
        rule = rule[:-1]
        if len(parts) <= len(rule):
            return False
        parts = parts[: len(rule)]
    if len(rule) != len(parts):
        return False
    for expected, part in zip(rule, parts, strict=True):
        if expected in (ANY, part) or (expected, part) in ((_RUN, run), (_USER, user)):
            continue
        return False
    return True


def _canonical(bundle: Bundle) -> str:
    return json.dumps(
        bundle.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
