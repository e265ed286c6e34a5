"""The SDK on asyncio: connect to a swarm, hand in runs, follow them, talk to the model."""

import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, overload
from urllib.parse import quote, urlencode
from uuid import uuid4

import httpx
from pydantic import JsonValue

from serve.tls import trusting_only
from swarm.answer import parse
from swarm.chat import reply_of, texts_of
from swarm.errors import NotAuthenticated, NotReachable
from swarm.home import ADMIN, admin_password, find_home, gateway_certificate, gateway_url
from swarm.http import PATIENCE_S, Call, Credentials, Gateway
from swarm.memory import AsyncMemory
from swarm.people import AsyncPeople
from swarm.run import AsyncRun
from swarm.usage import UsagePart, UsageReport, usage_of
from swarm.view import (
    Approval,
    Approvals,
    ApprovalStatus,
    AuditSummary,
    ConsistencyProof,
    DeadLetter,
    DeadLetters,
    InclusionProof,
    Priority,
    Reply,
    RunLine,
    Runs,
    RunStatus,
    Submitted,
)

TIMEOUT_S: Final = 30.0
CHAT_TIMEOUT_S: Final = 300.0
"""A small model on a shared CPU takes a minute for an answer."""
Message = Mapping[str, JsonValue]


class AsyncSwarm:
    """A connection to a swarm, for one event loop. Make it with `connect`, close it after use.

    async with await AsyncSwarm.connect() as swarm:
        run = await swarm.submit("Write a parser for RFC 3339 timestamps.")
        await run.wait()
        print(await run.result())
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @classmethod
    async def connect(
        cls,
        url: str | None = None,
        *,
        username: str | None = None,
        password: str | None = None,
        token: str | None = None,
        api_key: str | None = None,
        home: Path | str | None = None,
        certificate: Path | str | None = None,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = PATIENCE_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> Self:
        """Connect, and prove who is calling.

        Without a URL it is the swarm that runs on this machine, as the user "admin" whose
        password stands in its home. That password is never sent to a URL that was given.

        Args:
            url: of a gateway, such as ``https://swarm.example.org``.
            username: with `password`; the token is then renewed by itself.
            password: of that user.
            token: an access token instead; it lasts an hour.
            api_key: a key instead, as made by ``swarm api-keys create``; it needs no renewal.
            home: the directory of the swarm; SWARM_HOME or ~/.swarm if left out.
            certificate: PEM file with the one certificate that the gateway must have; without
                it, a gateway at a given URL needs one that the system trusts.
            timeout_s: for each call, its repeats included.
            patience_s: how long a run that is followed waits for a gateway that went away, as it
                does while the whole swarm starts again.
            transport: another way to reach the gateway, for tests.

        Raises:
            NotReachable: no swarm is running here, or none answers there.
            NotAuthenticated: the credentials are missing or not accepted.
        """
        if url is None:
            place = find_home(home)
            url = gateway_url(place)
            certificate = certificate or gateway_certificate(place)
            if username in (None, ADMIN) and not (password or token or api_key):
                username, password = ADMIN, admin_password(place)
        gateway = Gateway(
            url,
            _credentials(username, password, token or api_key),
            timeout_s=timeout_s,
            patience_s=patience_s,
            transport=transport,
            tls=_pinned(certificate),
        )
        try:
            await gateway.authenticate()
        except BaseException:
            await gateway.aclose()
            raise
        return cls(gateway)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._gateway.url!r})"

    async def aclose(self) -> None:
        """Close the connections. Runs go on without us."""
        await self._gateway.aclose()

    async def submit(
        self,
        objective: str,
        workflow: str = "sparc",
        model: str | None = None,
        idempotency_key: str | None = None,
        *,
        priority: Priority = "normal",
        deadline_s: float | None = None,
        budget_tokens: int | None = None,
        instructions: Mapping[str, str] | None = None,
    ) -> AsyncRun:
        """Hand in a job. It is stored durably when this returns, and handed in once only.

        Args:
            objective: what is wanted, in plain words.
            workflow: by name.
            model: the swarm's own if left out.
            idempotency_key: the same key is the same run, whichever process asks.
            priority: work of a high one is taken up before that of others.
            deadline_s: seconds after which the run fails.
            budget_tokens: tokens after which it is stopped; the policy's limit if left out.
            instructions: what to tell the agent of a step besides its prompt, by step.

        Raises:
            Refused: something of it is not accepted; `fields` says what.
            NotAllowed: the user may only look.
        """
        body: dict[str, JsonValue] = {
            "objective": objective,
            "workflow": workflow,
            "model": model,
            "priority": priority,
            "deadline_s": deadline_s,
            "budget_tokens": budget_tokens,
            "instructions": dict(instructions or {}),
        }
        call = Call(
            method="POST",
            path="/v1/runs",
            json=body,
            headers={"Idempotency-Key": idempotency_key or uuid4().hex},
        )
        return self.run(parse(Submitted, await self._gateway.call(call)).id)

    @property
    def people(self) -> AsyncPeople:
        """Users, and API keys of one's own."""
        return AsyncPeople(self._gateway)

    @property
    def memory(self) -> AsyncMemory:
        """What the swarm remembers."""
        return AsyncMemory(self._gateway)

    async def usage(
        self,
        by: Sequence[UsagePart] = ("day", "model"),
        *,
        user: str | None = None,
        run: str | None = None,
        since: date | None = None,
        until: date | None = None,
    ) -> UsageReport:
        """What was used up of the models, as far as the audit log has come.

        Args:
            by: what totals are told apart by, in this order.
            user: whose, by id, or "*" for everybody; one's own if left out.
            run: of one run only; the empty one is what was asked through the gateway.
            since: the first day, in UTC; 30 days if left out.
            until: the last day; today if left out.

        Raises:
            NotAllowed: only admins see what others used up.
        """
        return await usage_of(self._gateway, by, user=user, run=run, since=since, until=until)

    def run(self, run_id: str) -> AsyncRun:
        """A handle on a run, known or not; nothing is asked yet."""
        return AsyncRun(self._gateway, run_id)

    async def runs(self, limit: int = 20) -> tuple[RunLine, ...]:
        """The newest runs, in the order in which they were handed in.

        Args:
            limit: how many, at most 100.
        """
        call = Call(method="GET", path=f"/v1/runs?limit={limit}")
        return parse(Runs, await self._gateway.call(call)).runs

    async def approvals(
        self, status: ApprovalStatus | Literal["all"] = "pending"
    ) -> tuple[Approval, ...]:
        """The steps that wait for a person to let them begin, or those of another status."""
        call = Call(method="GET", path=f"/v1/approvals?status={quote(status)}")
        return parse(Approvals, await self._gateway.call(call)).approvals

    async def approve(self, approval_id: str, reason: str = "") -> Approval:
        """Let a step begin.

        Raises:
            NotFound: there is no such approval.
            Conflict: it was denied, or its run has ended.
            NotAllowed: the user may only look.
        """
        return await self._answer(approval_id, "approve", reason)

    async def deny(self, approval_id: str, *, reason: str) -> Approval:
        """Do not let a step begin; its run fails with the reason.

        Raises:
            NotFound, NotAllowed: as in `approve`.
            Conflict: it was given, or its run has ended.
            Refused: there is no reason.
        """
        return await self._answer(approval_id, "deny", reason)

    async def _answer(self, approval_id: str, what: str, reason: str) -> Approval:
        path = f"/v1/approvals/{quote(approval_id, safe='')}/{what}"
        call = Call(method="POST", path=path, json={"reason": reason})
        return parse(Approval, await self._gateway.call(call))

    async def dead_letters(self) -> tuple[DeadLetter, ...]:
        """The newest assignments that agents gave up, because nobody brought them to an end."""
        call = Call(method="GET", path="/v1/dead-letters")
        return parse(DeadLetters, await self._gateway.call(call)).dead_letters

    async def redrive(self, letter_id: str, reason: str = "") -> RunStatus:
        """Retry the run of a dead letter; a repeat does no harm.

        Raises:
            NotFound: there is no such dead letter.
            Conflict: its run has not failed.
            NotAllowed: the user may only look.
        """
        path = f"/v1/dead-letters/{quote(letter_id, safe='')}/redrive"
        call = Call(method="POST", path=path, json={"reason": reason})
        return parse(RunStatus, await self._gateway.call(call))

    async def audit(self, run_id: str) -> AuditSummary:
        """What the audit log has of a run."""
        return await self.run(run_id).audit()

    async def checkpoint(self, size: int | None = None, *, cosigned: bool = False) -> str:
        """A signed checkpoint of the audit log, the latest one if no size is named.

        Args:
            size: of the tree.
            cosigned: only one that a witness has cosigned.

        Raises:
            NotFound: none was signed at that size, or cosigned.
        """
        asked = [("size", size)] if size is not None else []
        query = urlencode([*asked, ("cosigned", str(cosigned).lower())])
        call = Call(method="GET", path=f"/v1/audit/checkpoint?{query}")
        return (await self._gateway.call(call)).decode()

    async def inclusion(self, leaf: int, size: int | None = None) -> InclusionProof:
        """Proof that a leaf is in the audit log, in the tree of a size or the latest one.

        Raises:
            NotFound: the log has not come so far.
            Refused: the tree of that size has no such leaf.
        """
        query = f"leaf={leaf}" + ("" if size is None else f"&size={size}")
        call = Call(method="GET", path=f"/v1/audit/inclusion?{query}")
        return parse(InclusionProof, await self._gateway.call(call))

    async def consistency(self, old: int, new: int | None = None) -> ConsistencyProof:
        """Proof that the audit log has only grown between two sizes.

        Raises:
            NotFound: the log has not come so far.
            Refused: the sizes are not in order.
        """
        query = f"old={old}" + ("" if new is None else f"&new={new}")
        call = Call(method="GET", path=f"/v1/audit/consistency?{query}")
        return parse(ConsistencyProof, await self._gateway.call(call))

    @overload
    async def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: Literal[False] = False,
        timeout_s: float = CHAT_TIMEOUT_S,
        **options: JsonValue,
    ) -> Reply: ...

    @overload
    async def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: Literal[True],
        timeout_s: float = CHAT_TIMEOUT_S,
        **options: JsonValue,
    ) -> AsyncGenerator[str, None]: ...

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: bool = False,
        timeout_s: float = CHAT_TIMEOUT_S,
        **options: JsonValue,
    ) -> Reply | AsyncGenerator[str, None]:
        """Ask the model directly, without a run and without a record.

        Args:
            messages: as for OpenAI: ``{"role": "user", "content": "..."}``.
            stream: True gives the answer's text piece by piece.
            timeout_s: for the whole answer, or from one piece to the next.
            options: further fields of the request, such as ``max_tokens=100``.

        Raises:
            Refused: the model does not accept the request.
            GatewayFailed: the model failed.
        """
        body: dict[str, JsonValue] = {
            **options,
            "messages": [dict(message) for message in messages],
            "stream": stream,
        }
        call = Call(method="POST", path="/v1/chat/completions", json=body)
        if stream:
            return self._chat_pieces(call, timeout_s)
        return reply_of(await self._gateway.call(call, repeatable=False, timeout_s=timeout_s))

    async def _chat_pieces(self, call: Call, silence_s: float) -> AsyncGenerator[str, None]:
        async with self._gateway.stream(call, silence_s=silence_s) as response:
            async for text in texts_of(response):
                yield text


def _credentials(username: str | None, password: str | None, token: str | None) -> Credentials:
    found = Credentials(username=username or "", password=password or "", token=token or "")
    if not (found.renewable or found.token):
        raise NotAuthenticated("A user name with its password is needed, or a token or API key.")
    return found


def _pinned(certificate: Path | str | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    try:
        return trusting_only(Path(certificate).expanduser())
    except (OSError, ValueError) as error:
        raise NotReachable(f"The gateway's certificate cannot be used: {error}.") from error
