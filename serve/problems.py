"""Refusals over HTTP: one shape, RFC 9457 problem details, for all that is not a success.

ServeError                (serve/errors.py)
  RequestRefused          400  a request that is not carried out; nothing was stored
    MalformedRequest      400
    NotAuthenticated      401
    NotAllowed            403
    NotFound              404
      NoSuchModel         404
    MethodNotAllowed      405
    RequestTooSlow        408
    Conflict              409
      VersionConflict     409
    RequestTooLarge       413
    NotJson               415
    InvalidFields         422
    TooManyRequests       429
      BudgetUsedUp        429
    ModelFailed           502
    Unavailable           503
    TooSlow               504

An answer carries sentences written for people, never a stack trace, and never
the value that was refused: it may be a secret, or huge.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar, Final

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.exceptions import HTTPException
from starlette.responses import Response

from bus.errors import BusUnreachable, PublishUnconfirmed, SwarmError
from serve.errors import (
    ModelBusy,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    NobodyAnswered,
    ServeError,
)
from storage.errors import StorageUnavailable

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:vllm-swarm:problem:"
RETRY_AFTER_S: Final = 2
"""What a 503 asks for: brokers and databases on one machine restart in about that time."""
BUSY_RETRY_AFTER_S: Final = 1
"""What a 429 asks for where the model has too much to do: answers end all the time."""
_MAX_FIELDS = 20
_MAX_REASON_CHARS = 300
_MAX_NAME_CHARS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldReason:
    """What is wrong with one field; never what it held."""

    field: str
    reason: str


class RequestRefused(ServeError):
    """The request is not carried out."""

    code = "request_refused"
    status: ClassVar[HTTPStatus] = HTTPStatus.BAD_REQUEST

    def __init__(
        self,
        message: str = "",
        *,
        fields: tuple[FieldReason, ...] = (),
        headers: Mapping[str, str] | None = None,
        conflict: dict[str, JsonValue] | None = None,
        not_done: bool = False,
    ) -> None:
        super().__init__(message)
        self.not_done = not_done
        self.fields = fields
        self.headers = dict(headers or {})
        self.conflict = conflict


class MalformedRequest(RequestRefused):
    """The request cannot be understood."""

    code = "malformed_request"


class NotAuthenticated(RequestRefused):
    """This needs an access token: log in at /auth/login."""

    code = "not_authenticated"
    status = HTTPStatus.UNAUTHORIZED


class NotAllowed(RequestRefused):
    """The user's role does not allow this."""

    code = "not_allowed"
    status = HTTPStatus.FORBIDDEN


class NotFound(RequestRefused):
    """There is nothing here."""

    code = "not_found"
    status = HTTPStatus.NOT_FOUND


class NoSuchModel(NotFound):
    """There is no such model."""

    code = "model_not_found"  # as OpenAI's API has it

    def __init__(self, message: str = "") -> None:
        reason = FieldReason(field="model", reason="GET /v1/models lists those that there are")
        super().__init__(message, fields=(reason,))


class MethodNotAllowed(RequestRefused):
    """The path does not take this method."""

    code = "method_not_allowed"
    status = HTTPStatus.METHOD_NOT_ALLOWED


class RequestTooSlow(RequestRefused):
    """The request's body did not arrive in time."""

    code = "request_too_slow"
    status = HTTPStatus.REQUEST_TIMEOUT


class Conflict(RequestRefused):
    """Things are not as the request supposes."""

    code = "conflict"
    status = HTTPStatus.CONFLICT


class VersionConflict(Conflict):
    """Somebody else wrote the item in between."""

    code = "version_conflict"


class RequestTooLarge(RequestRefused):
    """The request's body is over the limit."""

    code = "request_too_large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class NotJson(RequestRefused):
    """The body must be JSON, with Content-Type: application/json."""

    code = "not_json"
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class InvalidFields(RequestRefused):
    """Fields of the request cannot be accepted."""

    code = "invalid_fields"
    status = HTTPStatus.UNPROCESSABLE_ENTITY


class TooManyRequests(RequestRefused):
    """Too many attempts; wait before the next."""

    code = "too_many_requests"
    status = HTTPStatus.TOO_MANY_REQUESTS
    retryable = True


class BudgetUsedUp(TooManyRequests):
    """The person's tokens of the day are used up."""

    code = "insufficient_quota"
    retryable = False


class ModelFailed(RequestRefused):
    """The model failed to answer."""

    code = "model_failed"
    status = HTTPStatus.BAD_GATEWAY


class Unavailable(RequestRefused):
    """A part of the swarm is not there; try again."""

    code = "unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    retryable = True


class TooSlow(RequestRefused):
    """The answer did not come in time."""

    code = "too_slow"
    status = HTTPStatus.GATEWAY_TIMEOUT
    retryable = True


_MAY_PASS: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...]] = (
    ((BusUnreachable, PublishUnconfirmed), "The event bus does not answer."),
    (StorageUnavailable, "The storage does not answer."),
    (NobodyAnswered, "Neither the swarm's own model nor the fallback provider answers."),
    (ModelUnavailable, "No model is up to answer."),
    (ModelTimeout, "The model did not answer in time."),
    (TimeoutError, "The swarm did not answer in time."),
)


class ProblemField(BaseModel):
    """One entry of a problem's `errors`."""

    model_config = ConfigDict(frozen=True)
    field: str = Field(description="Where: a name, or a path with dots.")
    reason: str


class OpenAIError(BaseModel):
    """The same in the words of OpenAI's API, whose clients look here and nowhere else."""

    model_config = ConfigDict(frozen=True)
    message: str
    type: str
    code: str
    param: str | None = Field(None, description="The first field at fault.")


class Problem(BaseModel):
    """The body of every refusal (RFC 9457)."""

    model_config = ConfigDict(frozen=True)
    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    hint: str | None = None
    request_id: str | None = None
    errors: tuple[ProblemField, ...] = ()
    not_done: bool | None = Field(
        None, description="True where it is known that nothing of the request was carried out."
    )
    conflict: dict[str, JsonValue] | None = Field(
        None, description="Of a version conflict: what the writer saw, and what there is."
    )
    error: OpenAIError


def refusal_of(error: Exception) -> RequestRefused | None:
    """The refusal that an error means to the caller; None for a fault of ours.

    A fault's own message stays in our log: it may speak of addresses and internals.
    """
    match error:
        case RequestRefused():
            return error
        case RequestValidationError():
            return _from_validation(error)
        case HTTPException():
            return _from_http(error)
        case ModelRefused():
            return InvalidFields(short(str(error)))
        case ModelBusy():
            wait = {"Retry-After": str(BUSY_RETRY_AFTER_S)}
            return TooManyRequests("Too many wait for the model already.", headers=wait)
        case _:
            return _from_fault(error)


def problem_of(refusal: RequestRefused | None, request_id: str | None = None) -> Problem:
    """What is told of a refusal; of None, a fault of ours, no more than that it was one."""
    if refusal is None:
        status, code, hint = HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", ""
        detail, retryable = "The gateway failed; its log has the request id.", False
    else:
        status, code, hint = refusal.status, refusal.code, refusal.hint
        detail, retryable = str(refusal), refusal.retryable
    fields = refusal.fields if refusal else ()
    return Problem(
        type=TYPE_PREFIX + code,
        title=status.phrase,
        status=status,
        detail=detail,
        code=code,
        retryable=retryable,
        hint=hint or None,
        request_id=request_id,
        errors=tuple(ProblemField(field=f.field, reason=f.reason) for f in fields[:_MAX_FIELDS]),
        not_done=(refusal is not None and refusal.not_done) or None,
        conflict=refusal.conflict if refusal else None,
        error=OpenAIError(
            message=detail, type=code, code=code, param=fields[0].field if fields else None
        ),
    )


def response_for(refusal: RequestRefused | None, request_id: str | None = None) -> Response:
    """The answer for a refusal; for None, a 500 that says no more than that."""
    problem = problem_of(refusal, request_id)
    return Response(
        problem.model_dump_json(exclude_none=True),
        status_code=problem.status,
        headers=refusal.headers if refusal else None,
        media_type=MEDIA_TYPE,
    )


def _from_fault(error: Exception) -> RequestRefused | None:
    """What may go better next time is said to be so; of the rest the caller learns nothing."""
    for kinds, sentence in _MAY_PASS:
        if isinstance(error, kinds):
            if isinstance(error, ModelTimeout):
                return TooSlow(sentence)
            return _unavailable(sentence, not_done=_was_not_done(error))
    if isinstance(error, SwarmError) and error.retryable:
        return _unavailable("A part of the swarm could not do its work; try again.")
    return None


def _was_not_done(error: Exception) -> bool:
    """Whether it is known that no model worked on it, which is known of models only.

    Nobody can say whether the bus or the storage have what they did not acknowledge.
    """
    return isinstance(error, ModelUnavailable) and not error.was_asked


def _unavailable(sentence: str, *, not_done: bool = False) -> Unavailable:
    wait = {"Retry-After": str(RETRY_AFTER_S)}
    return Unavailable(sentence, headers=wait, not_done=not_done)


def _from_validation(error: RequestValidationError) -> RequestRefused:
    details = error.errors()
    if any(detail["type"] == "json_invalid" for detail in details):
        return MalformedRequest("The body is not JSON.")
    fields = tuple(
        FieldReason(field=_path(detail["loc"]), reason=_reason(detail))
        for detail in details[:_MAX_FIELDS]
    )
    return InvalidFields(
        "; ".join(f"{field.field}: {field.reason}" for field in fields), fields=fields
    )


def _from_http(error: HTTPException) -> RequestRefused:
    """Starlette's own refusals: no such path, no such method, an unreadable body."""
    status = HTTPStatus(error.status_code)
    kinds = {kind.status: kind for kind in RequestRefused.__subclasses__()}
    kind = kinds.get(status, MalformedRequest)
    if kind is MalformedRequest:
        return kind(short(str(error.detail)), headers=error.headers)
    return kind(headers=error.headers)


def _path(location: tuple[str | int, ...]) -> str:
    """Where the fault is, without the part of the request that FastAPI puts first."""
    parts = [str(part)[:_MAX_NAME_CHARS] for part in location[1:5]] or [str(location[0])]
    return ".".join(parts)


def _reason(detail: Mapping[str, object]) -> str:
    message = str(detail["msg"]).removeprefix("Value error, ")
    return short(message[:1].lower() + message[1:])


def short(text: str) -> str:
    """The first line of a text, of a length that fits an answer."""
    first = text.splitlines()[0] if text else ""
    return first if len(first) <= _MAX_REASON_CHARS else first[:_MAX_REASON_CHARS] + "…"
