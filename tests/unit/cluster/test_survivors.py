"""The file with what only the stream had."""

import stat
from pathlib import Path

import pytest

from bus.refill import Message
from cluster.errors import HomeNotUsable
from cluster.home import locate
from cluster.survivors import Survivors

MESSAGES = [
    Message(sequence=7, subject="evt.00.r.run.failed", headers=(("ce-id", "x"),), data=b"{}"),
    Message(
        sequence=9,
        subject="evt.\udcff",
        headers=(("a", "\udc80\u2028\x85"), ("a", "twice")),
        data=bytes(range(256)),
    ),
    Message(sequence=10, subject="evt.x", headers=(), data=b""),
]


def test_what_is_saved_comes_back_byte_for_byte(tmp_path: Path) -> None:
    survivors = Survivors(locate(tmp_path))
    assert survivors.load() == []
    survivors.save(MESSAGES)
    assert survivors.exist
    assert Survivors(locate(tmp_path)).load() == MESSAGES
    assert stat.S_IMODE(survivors.path.stat().st_mode) == 0o600
    survivors.save([])
    assert survivors.load() == []
    assert survivors.exist
    survivors.discard()
    assert not survivors.exist


def test_a_file_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    survivors = Survivors(locate(tmp_path))
    survivors.save(MESSAGES)
    survivors.path.write_text("something else\n")
    with pytest.raises(HomeNotUsable, match="something else"):
        survivors.load()
