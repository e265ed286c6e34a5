"""The document of a finished run: Markdown made from the answers, without a model.

Pure, and for any workflow: it knows lists, texts, nested objects and yes or no, not the
roles. A field named ``code`` becomes a fenced block, with the field ``language`` beside
it as its info string.

What the answers say is text, never structure: HTML, links and images in it do not work,
and nothing in it can open a heading or leave a code block.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

MAX_DOCUMENT_CHARS: Final = 60_000
"""No character takes more than four bytes of JSON, so that the event holds the document."""
RECALLED: Final = "Recalled from earlier work"
_TITLE_CHARS: Final = 120
_CUT: Final = "\n\n*The rest is left out: the document is too long.*\n"

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_RUN_OF_TICKS = re.compile(r"`+")
_INFO = re.compile(r"[A-Za-z0-9+#._-]{1,20}\Z")
_BLOCK_START = re.compile(r"(?:[#>\-+*=|:\[~`]|\d+[.)])")
_HTML_START = re.compile(r"<(?=[A-Za-z/!?])")

Answer = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One answer under its heading."""

    title: str
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """One node of a workflow: an answer, or the last round of a loop and a note on it."""

    title: str
    parts: tuple[Part, ...]
    note: str = ""


def render_document(
    objective: str, chapters: Iterable[Chapter], *, sources: Iterable[str] = ()
) -> str:
    """The document as Markdown; at most `MAX_DOCUMENT_CHARS`, cut off visibly.

    The title is the first line of the objective. A longer objective follows in full, as a
    quotation. What of the memory was read is named at the end.
    """
    blocks = [*_heading(objective)]
    for chapter in chapters:
        blocks.append(f"## {_text(chapter.title)}")
        if chapter.note:
            blocks.append(f"*{_text(chapter.note)}*")
        for part in chapter.parts:
            if part.title != chapter.title:
                blocks.append(f"### {_text(part.title)}")
            blocks += _fields(part.answer)
    named = "\n".join(f"- {_text(source)}" for source in sources)
    if named:
        blocks += [f"## {RECALLED}", named]
    document = "\n\n".join(blocks) + "\n"
    if len(document) <= MAX_DOCUMENT_CHARS:
        return document
    return _close(document[: MAX_DOCUMENT_CHARS - 200]) + _CUT


def fence(text: str, info: str = "") -> str:
    """The text as a code block whose fence is longer than any run of backticks in it."""
    longest = max((len(ticks) for ticks in _RUN_OF_TICKS.findall(text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{info}\n{text}\n{ticks}"


def label_of(name: str) -> str:
    """A field's or step's name for people: ``edge_cases`` is Edge cases."""
    return name.replace("_", " ").replace("-", " ").strip().capitalize()


def _heading(objective: str) -> Iterator[str]:
    lines = _CONTROL.sub("", objective).strip().splitlines() or [""]
    title = lines[0].strip()
    if len(title) > _TITLE_CHARS:
        title = title[: _TITLE_CHARS - 1].rstrip() + "…"
    yield f"# {_text(title) or 'Result'}"
    if title != objective.strip():
        yield "\n".join(f"> {_text(line)}".rstrip() for line in lines)


def _fields(answer: Answer) -> Iterator[str]:
    language = answer.get("language")
    for name, value in answer.items():
        label = f"**{_text(label_of(name))}**"
        if name == "code" and isinstance(value, str):
            info = language if isinstance(language, str) and _INFO.match(language) else ""
            yield f"{label}:"
            yield fence(_CONTROL.sub("", value.replace("\r\n", "\n").rstrip("\n")), info)
        elif isinstance(value, list):
            items = "\n".join(f"- {_value(item)}" for item in value)
            yield f"{label}:\n\n{items}" if items else f"{label}: none"
        else:
            yield f"{label}: {_value(value)}"


def _value(value: JsonValue) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case None:
            return "none"
        case dict():
            pairs = (f"{_text(label_of(name))}: {_value(part)}" for name, part in value.items())
            return "; ".join(pairs) or "none"
        case list():
            return ", ".join(map(_value, value)) or "none"
        case _:
            return _text(str(value)) or "none"


def _text(text: str) -> str:
    """One line in which nothing is a block, HTML, a link or an image."""
    line = " ".join(_CONTROL.sub("", text.replace("\\", "\\\\")).split())
    line = _HTML_START.sub(r"\\<", line).replace("](", "]\\(").replace("][", "]\\[")
    start = _BLOCK_START.match(line)
    if start is None:
        return line
    end = start.end() - 1  # before the mark itself: a digit cannot be escaped, its dot can
    return f"{line[:end]}\\{line[end:]}"


def _close(cut: str) -> str:
    """End the code block that a cut may have left open."""
    open_fence = ""
    for line in cut.splitlines():
        ticks = re.match(r"`{3,}", line)
        if open_fence:
            open_fence = "" if line == open_fence else open_fence
        elif ticks:
            open_fence = ticks.group()
    return f"{cut}\n{open_fence}" if open_fence else cut
