"""A witness at work: one request after the other is judged, kept, and only then answered."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from storage.cosign_request import Request, parse_request
from storage.cosignature import cosign
from storage.errors import BadCheckpoint
from storage.note import NoteSignature
from swarm.witness.decide import (
    BAD_REQUEST,
    CONFLICT,
    Cosign,
    Refuse,
    Remember,
    decide,
    log_lines,
)
from swarm.witness.state import StateDirectory

log = structlog.get_logger()

OK: Final = 200
UNAVAILABLE: Final = 503
TEXT: Final = "text/plain; charset=utf-8"
SIZE: Final = "text/x.tlog.size"
"""What the specification calls the size that stands in a 409."""

Clock = Callable[[], float]
"""POSIX seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back over HTTP."""

    status: int
    body: str
    media_type: str = TEXT


class Witness:
    """Answers requests, one at a time, from any thread.

    A cosignature is on the disk before it is handed out. Once the disk has failed nothing is
    cosigned any more: what is on it then shows only when the directory is opened anew.
    """

    def __init__(self, state: StateDirectory, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._turn = threading.Lock()
        self._failed = False

    def add_checkpoint(self, body: bytes) -> Answer:
        """The answer to an add-checkpoint request."""
        try:
            request = parse_request(body)
        except BadCheckpoint as error:
            return Answer(status=BAD_REQUEST, body=f"{error}\n")
        with self._turn:
            if self._failed:
                return _FAILED
            try:
                return self._answer(request)
            except OSError as error:
                self._failed = True
                log.critical("witness.disk_failed", reason=str(error))
                return _FAILED

    def newest(self) -> str | None:
        """The checkpoint cosigned last, with the cosignature; None if there is none."""
        return self._state.note

    def _answer(self, request: Request) -> Answer:
        match decide(self._state.known, request, self._state.parties):
            case Cosign():
                return self._cosign(request)
            case Remember(checkpoint=checkpoint):
                log.error("witness.had_forgotten", shown=checkpoint.size, **self._position())
                self._keep(request, None)
                return self._size()
            case Refuse() as refusal:
                return self._refuse(request, refusal)

    def _cosign(self, request: Request) -> Answer:
        """Never with an earlier time than before, whatever the clock says."""
        time_s = max(int(self._clock()), self._state.known.time_s)
        name = self._state.parties.own_key.name
        line = cosign(request.signed.note.text, name, self._state.key, time_s)
        self._keep(request, line)
        log.info("witness.cosigned", **self._position())
        return Answer(status=OK, body=f"{line}\n")

    def _keep(self, request: Request, line: NoteSignature | None) -> None:
        """The note with the log's signatures and the witness's own; others are not kept."""
        note, parties = request.signed.note, self._state.parties
        own = note.by(parties.own_key) if line is None else (line,)
        self._state.keep(note.under((*log_lines(note, parties.log_keys), *own)))

    def _refuse(self, request: Request, refusal: Refuse) -> Answer:
        report, shown = log.info, request.signed
        if refusal.contradicts:
            report = log.error
            self._state.keep_contradiction(shown)
        elif refusal.unproven:
            report = log.warning
            self._state.keep_unproven(shown)
        report(
            "witness.refused",
            status=refusal.status,
            reason=refusal.reason,
            shown=shown.checkpoint.size,
            **self._position(),
        )
        if refusal.status == CONFLICT:
            return self._size()
        return Answer(status=refusal.status, body=f"{refusal.reason}\n")

    def _size(self) -> Answer:
        return Answer(status=CONFLICT, body=f"{self._state.known.size}\n", media_type=SIZE)

    def _position(self) -> dict[str, object]:
        known = self._state.known
        return {"size": known.size, "root": known.root.hex()}


_FAILED: Final = Answer(
    status=UNAVAILABLE, body="The witness cannot write down what it signs; start it again.\n"
)
