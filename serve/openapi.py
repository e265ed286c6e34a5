"""The OpenAPI document, completed by what holds for every route. Pure.

FastAPI knows the routes and their models. What a request may be refused with, in which form,
and an example of each body are added here, so that no route has to repeat them.

Source: OpenAPI 3.1.0; RFC 9457 for the form of refusals.
"""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from importlib import resources
from typing import Final

import yaml
from pydantic import JsonValue

from serve.problems import MEDIA_TYPE, RequestRefused, problem_of

Json = dict[str, JsonValue]

PROBLEM: Final = "Problem"
_ALWAYS: Final = (400, 500, 503)
"""A gateway may fail or lack a part it needs, and no request is too plain to be malformed."""
_CLOSED: Final = (401, 403, 429)
_NAMES_SOMETHING: Final = (404,)
_HAS_PARAMETERS: Final = (422,)
_HAS_BODY: Final = (408, 413, 415, 422)
_WAITS: Final = frozenset({429, 503})
_METHODS: Final = frozenset({"get", "put", "post", "delete", "patch"})
_HEADERS: Final[Json] = {
    "X-Request-ID": {
        "description": "Names this request in the gateway's log.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds to wait before the next try.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "WWW-Authenticate": {
        "description": "How to authenticate (RFC 6750).",
        "schema": {"type": "string"},
    },
}


def examples() -> dict[str, list[JsonValue]]:
    """An example or more of each body that is sent or answered, by the name of its schema."""
    text = resources.files("serve").joinpath("examples.yaml").read_text(encoding="utf-8")
    loaded: dict[str, list[JsonValue]] = yaml.safe_load(text)
    return loaded


def complete(document: Json) -> Json:
    """Add refusals, headers and examples to what FastAPI makes of the routes.

    Args:
        document: is changed in place, and returned.
    """
    components = _object(document, "components")
    schemas = _object(components, "schemas")
    for name, shown in examples().items():
        if name in schemas:
            _object(schemas, name).setdefault("examples", list(shown))
    components["headers"] = dict(_HEADERS)
    for operation in operations(document):
        responses = _object(operation, "responses")
        for status in refusals_of(operation):
            responses[str(status)] = _refusal(status, responses.get(str(status)))
        responses["default"] = _refusal(None, responses.get("default"))
        operation["responses"] = dict(sorted(responses.items()))
    return document


def operations(document: Json) -> Iterator[Json]:
    """Every operation of every path."""
    for path in _object(document, "paths").values():
        if isinstance(path, dict):
            for method, operation in path.items():
                if method in _METHODS and isinstance(operation, dict):
                    yield operation


def refusals_of(operation: Json) -> list[int]:
    """The statuses by which a request for this operation may be refused, in order."""
    declared = [
        int(status)
        for status in _object(operation, "responses")
        if status.isdecimal() and int(status) >= HTTPStatus.BAD_REQUEST
    ]
    parameters = operation.get("parameters")
    places = [
        parameter.get("in")
        for parameter in (parameters if isinstance(parameters, list) else ())
        if isinstance(parameter, dict)
    ]
    found = {
        *declared,
        *_ALWAYS,
        *(_CLOSED if "security" in operation else ()),
        *(_NAMES_SOMETHING if "path" in places else ()),
        *(_HAS_PARAMETERS if places else ()),
        *(_HAS_BODY if "requestBody" in operation else ()),
    }
    return sorted(found)


def _refusal(status: int | None, declared: JsonValue) -> Json:
    """A response that is a problem document, with an example of it."""
    kind = _kind_of(status)
    said = declared.get("description") if isinstance(declared, dict) else None
    description = said if isinstance(said, str) else (kind.__doc__ or "").splitlines()[0]
    headers: Json = {"X-Request-ID": _reference("headers", "X-Request-ID")}
    if status in _WAITS:
        headers["Retry-After"] = _reference("headers", "Retry-After")
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = _reference("headers", "WWW-Authenticate")
    content: Json = {"schema": _reference("schemas", PROBLEM)}
    if status is not None:
        refusal = None if status == HTTPStatus.INTERNAL_SERVER_ERROR else kind()
        problem = problem_of(refusal, request_id="0123456789abcdef")
        content["example"] = problem.model_dump(mode="json", exclude_none=True)
    return {"description": description, "headers": headers, "content": {MEDIA_TYPE: content}}


def _kind_of(status: int | None) -> type[RequestRefused]:
    kinds = {kind.status: kind for kind in RequestRefused.__subclasses__()}
    return RequestRefused if status is None else kinds.get(HTTPStatus(status), RequestRefused)


def _reference(group: str, name: str) -> Json:
    return {"$ref": f"#/components/{group}/{name}"}


def _object(parent: Mapping[str, JsonValue], name: str) -> Json:
    found = parent.get(name)
    if not isinstance(found, dict):
        raise TypeError(f"the OpenAPI document has no object {name!r}")
    return found
