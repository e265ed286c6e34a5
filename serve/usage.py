"""What an OpenAI request may use up of a model, and what its answer says that it did. Pure.

The engine is always asked to count, in each chunk of a stream as well, so that it is known what
an answer had cost where it was broken off. A caller who did not ask for it is not shown it. Of a
chunk no more is read than that: it is cut out of the text, and nothing is encoded anew. A provider
may count at the end, or not at all: what it writes until then is read, and reckoned.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from serve.completion import Task, object_in
from serve.problems import FieldReason, InvalidFields

UNSAID_TOKENS: Final = 2_048
"""Of an answer whose length the caller leaves open, where what he may use up is limited."""
UNSAID_COMPLETION_TOKENS: Final = 16
"""The same of a completion: OpenAI's API has it so."""
TEMPLATE_TOKENS: Final = 64
"""What a chat template may add to the messages besides what marks each of them."""
BYTES_PER_TOKEN: Final = 4
"""About what a token stands for in English; it never stands for less than a byte."""
_MOST_TOKENS: Final = 10**12
"""No answer took more, whatever a provider says: sums of it still fit everywhere. No request is
granted more either: the counters reckon in doubles, exact up to 2**53."""
_MOST_NUMBER: Final = 10**9
"""In one field of a request; no model writes so many tokens or answers."""
_WRITTEN: Final = ("content", "text", "refusal", "tool_calls", "function_call")
_NOT_WRITTEN: Final = frozenset({"id", "type"})
_KEY: Final = '"usage":'
_DECODER: Final = json.JSONDecoder()
_PROMPTS: Final[Mapping[Task, tuple[str, ...]]] = {
    "chat": ("messages", "tools", "functions", "documents"),
    "completion": ("prompt", "suffix"),
    "embedding": ("input",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Tokens that a model read and wrote."""

    prompt: int = 0
    completion: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.prompt + self.completion


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much a request may use up.

    Attributes:
        prompt_bytes: of what the model reads; it is never more tokens than that.
        answers: how many are wanted of it.
        each: tokens of each at most; None where the request leaves it open.
        unsaid: what is granted of each then, where there is a limit.
    """

    prompt_bytes: int
    answers: int
    each: int | None
    unsaid: int

    @property
    def prompt_most(self) -> int:
        """Tokens of the prompt at most."""
        return self.prompt_bytes + TEMPLATE_TOKENS

    @property
    def estimate(self) -> int:
        """Tokens of the prompt, more or less."""
        return -(-self.prompt_bytes // BYTES_PER_TOKEN)


def extent_of(body: Mapping[str, JsonValue], task: Task) -> Extent:
    """How much a request may use up.

    Raises:
        InvalidFields: it says so otherwise than in whole numbers, or in larger ones than can be
            counted.
    """
    read = [body[name] for name in _PROMPTS[task] if body.get(name)]
    size = sum(
        len(json.dumps(each, ensure_ascii=False).encode("utf-8", "replace")) for each in read
    )
    if task == "embedding":
        return Extent(prompt_bytes=size, answers=0, each=0, unsaid=0)
    prompt = body.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) else 1
    answers = prompts * max(1, _number(body, "n") or 1, _number(body, "best_of") or 1)
    said = [_number(body, name) for name in ("max_tokens", "max_completion_tokens")]
    each = max((each for each in said if each is not None), default=None)
    unsaid = UNSAID_TOKENS if task == "chat" else UNSAID_COMPLETION_TOKENS
    if answers * (unsaid if each is None else each) > _MOST_TOKENS:
        field = "n" if each is None else "max_tokens"
        raise _refused(field, f"all answers together may have {_MOST_TOKENS} tokens")
    return Extent(prompt_bytes=size, answers=answers, each=each, unsaid=unsaid)


def _number(body: Mapping[str, JsonValue], name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _refused(name, "a whole number is wanted")
    if value > _MOST_NUMBER:
        raise _refused(name, f"a whole number up to {_MOST_NUMBER} is wanted")
    return value


def _refused(field: str, reason: str) -> InvalidFields:
    return InvalidFields(f"{field}: {reason}.", fields=(FieldReason(field=field, reason=reason),))


def counting(body: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The request, such that the engine counts as it goes."""
    if not body.get("stream"):
        return dict(body)
    options = body.get("stream_options")
    asked = options if isinstance(options, dict) else {}
    counted = {**asked, "include_usage": True, "continuous_usage_stats": True}
    return {**body, "stream_options": counted}


class Listener:
    """Hears what an engine says of one answer.

    Args:
        body: the request as the caller made it.
        task: which kind it is.
    """

    def __init__(self, body: Mapping[str, JsonValue], task: Task) -> None:
        options = body.get("stream_options") if body.get("stream") else None
        asked = options if isinstance(options, dict) else {}
        self._shows_end = bool(asked.get("include_usage"))
        self._shows_all = self._shows_end and bool(asked.get("continuous_usage_stats"))
        number = body.get("n")
        self._per_prompt = number if task == "completion" and isinstance(number, int) else 1
        self._one_prompt = task != "completion"
        self._of_choice: dict[int, Tally] = {}
        self._whole: Tally | None = None
        self._pieces = self._bytes = 0

    @property
    def reckoned(self) -> int:
        """About how many tokens were written before the engine said anything of it.

        A chunk is of one token at least.
        """
        return max(self._pieces, -(-self._bytes // BYTES_PER_TOKEN))

    @property
    def heard(self) -> Tally | None:
        """What the engine said so far; None if nothing."""
        if self._whole is not None or not self._of_choice:
            return self._whole
        of_prompt = {
            0 if self._one_prompt else choice // max(1, self._per_prompt): tally.prompt
            for choice, tally in self._of_choice.items()
        }
        written = sum(tally.completion for tally in self._of_choice.values())
        return Tally(prompt=sum(of_prompt.values()), completion=written)

    def whole(self, document: str) -> None:
        """Hear the one document of an answer that is not streamed."""
        found = _find(document)
        if found is not None:
            self._whole = found.tally
        else:
            self._reckon(document)

    def chunk(self, document: str) -> str | None:
        """Hear a chunk; what the caller is shown of it, None for nothing."""
        found = _find(document)
        if found is None:
            if self.heard is None:
                self._reckon(document)
            return document
        choice = _choice_in(document)
        if choice is None:
            self._whole = found.tally
            return document if self._shows_end else None
        self._of_choice[choice] = found.tally
        return document if self._shows_all else _without(document, found)

    def _reckon(self, document: str) -> None:
        for said in _said_in(document):
            size = _size(said)
            self._pieces += size > 0
            self._bytes += size


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What a document says of usage, and where in it."""

    tally: Tally
    begin: int
    end: int


def _find(document: str) -> _Found | None:
    """Quotes within texts are escaped, so what looks like the key is the key."""
    begin = document.rfind(_KEY)
    if begin < 0:
        return None
    value = begin + len(_KEY)
    while document[value : value + 1].isspace():
        value += 1
    try:
        said, end = _DECODER.raw_decode(document, value)
    except (ValueError, RecursionError):  # it says nothing that can be read
        return None
    if not isinstance(said, dict):
        return None
    tally = Tally(
        prompt=_count(said, "prompt_tokens"), completion=_count(said, "completion_tokens")
    )
    return _Found(tally=tally, begin=begin, end=end)


def _without(document: str, found: _Found) -> str:
    """The document without what it says of usage."""
    before = document[: found.begin].rstrip()
    if before.endswith(","):
        return before[:-1] + document[found.end :]
    read = object_in(document)
    if read is None:
        return document
    return json.dumps({name: value for name, value in read.items() if name != "usage"})


def _count(said: Mapping[str, JsonValue], name: str) -> int:
    value = said.get(name)
    return min(value, _MOST_TOKENS) if isinstance(value, int) and value > 0 else 0


def _said_in(document: str) -> Iterator[Mapping[str, JsonValue]]:
    """What each choice of a document says, in OpenAI's words."""
    choices = (object_in(document) or {}).get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            said = choice.get("delta") or choice.get("message") or choice
            if isinstance(said, dict):
                yield said


def _size(said: Mapping[str, JsonValue]) -> int:
    """Bytes that a model wrote: of texts, of what it thought, and of calls of tools."""
    thought = said.get("reasoning") or said.get("reasoning_content")  # some say it by both names
    rest: list[JsonValue] = [thought, *(said.get(name) for name in _WRITTEN)]
    size = 0
    while rest:
        match rest.pop():
            case str() as text:
                size += len(text.encode("utf-8", "replace"))
            case dict() as parts:
                rest.extend(part for name, part in parts.items() if name not in _NOT_WRITTEN)
            case list() as parts:
                rest.extend(parts)
    return size


def _choice_in(document: str) -> int | None:
    """The index of the choice that a chunk is of; None where it is of none."""
    at = document.find('"choices":')
    begin = document.find("[", at)
    if at < 0 or begin < 0 or document[begin + 1 : begin + 2] == "]":
        return None
    index = document.find('"index":', begin)
    digits = document[index + 8 : index + 16].lstrip() if index >= 0 else ""
    number = digits.split(",")[0].split("}")[0].strip()
    return int(number) if number.isdecimal() else 0
