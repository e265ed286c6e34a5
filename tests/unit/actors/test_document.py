"""The document: readable Markdown in which answers stay text."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from actors.document import MAX_DOCUMENT_CHARS, Chapter, Part, fence, render_document


def chapter(title: str = "Code", **answer: JsonValue) -> Chapter:
    return Chapter(title=title, parts=(Part(title=title, answer=answer),))


def test_a_document_reads_like_this() -> None:
    refinement = Chapter(
        title="Refinement",
        note="Round 1 of at most 2, accepted.",
        parts=(
            Part(
                title="Code",
                answer={"language": "python", "code": "print(1)\n", "edge_cases": ["none", "one"]},
            ),
            Part(title="Verdict", answer={"reasons": [], "accepted": True}),
        ),
    )
    document = render_document("Print a number", [chapter("Plan", summary="Print it"), refinement])
    assert document == (
        "# Print a number\n\n"
        "## Plan\n\n"
        "**Summary**: Print it\n\n"
        "## Refinement\n\n"
        "*Round 1 of at most 2, accepted.*\n\n"
        "### Code\n\n"
        "**Language**: python\n\n"
        "**Code**:\n\n"
        "```python\nprint(1)\n```\n\n"
        "**Edge cases**:\n\n- none\n- one\n\n"
        "### Verdict\n\n"
        "**Reasons**: none\n\n"
        "**Accepted**: yes\n"
    )


def test_a_long_objective_is_quoted_in_full_below_its_first_line() -> None:
    document = render_document("Sort names\n# fast\n\nand well", [])
    assert document == "# Sort names\n\n> Sort names\n> \\# fast\n>\n> and well\n"


def test_a_long_first_line_is_shortened_in_the_title() -> None:
    title, _, quoted = render_document("word " * 50, []).partition("\n\n")
    assert title.endswith("…")
    assert len(title) <= 122
    assert quoted.count("word") == 50


def test_an_objective_of_white_space_still_gives_a_title() -> None:
    assert render_document(" \n ", []).startswith("# Result\n")


def test_a_fence_is_longer_than_any_in_the_code() -> None:
    code = "```\nnested\n````"
    assert f"`````\n{code}\n`````" in render_document("x", [chapter(code=code)])
    assert fence("plain") == "```\nplain\n```"


def test_a_language_that_is_not_one_is_left_out_of_the_fence() -> None:
    document = render_document("x", [chapter(language="go`\n# no", code="1")])
    assert "```\n1\n```" in document


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("# heading", "\\# heading"),
        ("line\n\n## heading", "line ## heading"),
        ("1. first", "1\\. first"),
        ("```js", "\\```js"),
        ("~~~", "\\~~~"),
        ("> quoted", "\\> quoted"),
        ("<script>alert(1)</script>", "\\<script>alert(1)\\</script>"),
        ("![x](http://a/b.png)", "![x]\\(http://a/b.png)"),
        ("[x]: http://a", "\\[x]: http://a"),
        ("a < b and snake_case", "a < b and snake_case"),
        ("C:\\dir", "C:\\\\dir"),
        ("a\x00b\x1bc", "abc"),
    ],
)
def test_what_an_answer_says_is_text_and_not_structure(text: str, shown: str) -> None:
    assert f"**Summary**: {shown}\n" in render_document("x", [chapter(summary=text)])
    assert f"\n- {shown}\n" in render_document("x", [chapter(items=[text])])


def test_nested_answers_are_told_in_a_line() -> None:
    parts: JsonValue = [{"name": "a", "ok": False, "tags": ["x", "y"]}, None, 7]
    document = render_document("x", [chapter(parts=parts)])
    assert "- Name: a; Ok: no; Tags: x, y\n- none\n- 7\n" in document


def test_a_document_too_long_is_cut_visibly_outside_of_code() -> None:
    code = "```\n" + "line\n" * MAX_DOCUMENT_CHARS
    document = render_document("x", [chapter(code=code)])
    assert len(document) <= MAX_DOCUMENT_CHARS
    assert document.endswith("\n````\n\n*The rest is left out: the document is too long.*\n")


@settings(max_examples=60, deadline=None, database=None)
@given(
    objective=st.text(min_size=1, max_size=300),
    answer=st.dictionaries(
        st.sampled_from(["code", "language", "summary", "items"]),
        st.text(max_size=80) | st.lists(st.text(max_size=40), max_size=3) | st.booleans(),
    ),
)
def test_only_our_own_headings_stand_in_a_document(
    objective: str, answer: dict[str, JsonValue]
) -> None:
    document = render_document(objective, [chapter("Plan", **answer), chapter("End")])
    headings = [line for line in outside_of_fences(document) if line.startswith("#")]
    assert headings[1:] == ["## Plan", "## End"]
    assert len(json.dumps(document, ensure_ascii=False).encode()) <= 4 * len(document) + 2


def outside_of_fences(document: str) -> list[str]:
    lines, closing = [], ""
    for line in document.split("\n"):
        if closing:
            closing = "" if line == closing else closing
        elif line.startswith("```"):
            closing = "`" * (len(line) - len(line.lstrip("`")))
        else:
            lines.append(line)
    assert not closing
    return lines
