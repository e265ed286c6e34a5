"""The chains of senders: whether each one's events follow each other, as far as they are here.

Whoever has a key can number its own events as it likes, and say again what others said where it
may publish. The log shows that, and is no less whole for it: so it is found, not refused.
"""

from dataclasses import dataclass, field

from swarm.verify.record import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What does not fit, of an event that was signed, permitted, and stands in its place.

    Attributes:
        index: of its leaf; stream_sequence: of the leaf as well.
        sender: role and name; key: the public key that signed it.
        what: is wrong.
    """

    index: int
    stream_sequence: int
    sender: str
    key: str
    what: str

    def __str__(self) -> str:
        place = f"leaf {self.index} (stream sequence {self.stream_sequence})"
        return f"{place} by {self.sender}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """Why an event does not join its sender's chain.

    Attributes:
        what: is wrong.
        is_repeat: whether it is the very same event as one before, and no other.
    """

    what: str
    is_repeat: bool = False


@dataclass(slots=True)
class Chains:
    """Follows every sender's chain; events must come in the order of the log."""

    _heads: dict[str, Event] = field(default_factory=dict)
    _first: dict[tuple[str, int], tuple[int, str]] = field(default_factory=dict)

    def follow(self, event: Event, index: int) -> Misfit | None:
        """Take the sender's next event. What repeats a number does not move the chain.

        Args:
            event: its form checked.
            index: of its leaf.

        Returns:
            What is wrong if it does not join; else None.
        """
        mine = index, event.digest
        first = self._first.setdefault((event.key, event.sequence), mine)
        head = self._heads.get(event.key)
        if head is None or event.sequence > head.sequence:
            self._heads[event.key] = event
        if first[1] != event.digest:
            return Misfit(what=f"leaf {first[0]} is another event {event.sequence} of its sender")
        if first != mine:
            return Misfit(what=f"it is the event of leaf {first[0]} once more", is_repeat=True)
        if head is None:
            return None
        if event.sequence < head.sequence:
            what = f"it is event {event.sequence} of its sender, after {head.sequence}"
            return Misfit(what=what)
        if event.sequence == head.sequence + 1 and event.previous != head.digest:
            return Misfit(what="it does not follow its sender's event before it")
        return None
