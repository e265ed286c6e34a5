"""Where the leaves of a bundle stand: in the run, among trust, in the tree. Nothing is left out."""

from swarm.verify.bundle import Bundle
from swarm.verify.note import Checkpoint
from swarm.verify.record import SYSTEM_RUN, TRUST_RUN, Whole
from swarm.verify.text import NotProven
from swarm.verify.tree import leaf_hash, root_from_edge, root_from_inclusion


def check_places(bundle: Bundle, size: int) -> list[Whole]:
    """That the run and the trust are whole, by their indexes; the leaves of the run.

    Raises:
        NotProven: one is missing, or stands where it cannot.
    """
    counts = {bundle.run: 0, TRUST_RUN: 0}
    before = -1, 0
    mine = [whole for whole in bundle.leaves if whole.leaf.run == bundle.run]
    if not mine:
        raise NotProven("there is no leaf of the run in the bundle")
    for whole in bundle.leaves:
        place, leaf = (whole.index, whole.leaf.stream_sequence), whole.leaf
        if whole.index <= before[0] or leaf.stream_sequence <= before[1]:
            raise NotProven(f"{whole} does not stand in the order of the log")
        before = place
        if leaf.trust_count != counts[TRUST_RUN]:
            raise NotProven(
                f"{whole} counts {leaf.trust_count} leaves of trust before it, and"
                f" {counts[TRUST_RUN]} are here"
            )
        if leaf.run in counts:
            if leaf.run_index != counts[leaf.run]:
                raise NotProven(
                    f"{whole} is number {leaf.run_index} of the run {leaf.run!r}, and"
                    f" {counts[leaf.run]} are here before it"
                )
            counts[leaf.run] += 1
        elif leaf.run != SYSTEM_RUN:
            raise NotProven(f"{whole} is of another run, {leaf.run!r}")
    _check_tail(bundle, mine[-1], counts[TRUST_RUN], size)
    return mine


def _check_tail(bundle: Bundle, last: Whole, trusted: int, size: int) -> None:
    """That the rest of the log has no leaf of the run, and no trust that is not here."""
    whole = {each.index: each for each in bundle.leaves}
    at, sequence = last.index, last.leaf.stream_sequence
    trust = last.leaf.trust_count
    for leaf in bundle.tail:
        at += 1
        what = f"leaf {at} of the tail (stream sequence {leaf.stream_sequence})"
        if leaf.run == bundle.run:
            raise NotProven(f"{what} is of the run, and it is not shown whole")
        if leaf.stream_sequence <= sequence or leaf.trust_count != trust:
            raise NotProven(f"{what} does not follow the one before it")
        if leaf.run == TRUST_RUN:
            trust += 1
            if at not in whole:
                raise NotProven(f"{what} is one of trust, and it is not shown whole")
        if at in whole and whole[at].leaf != leaf:
            raise NotProven(f"{what} is not the one that is shown whole")
        sequence = leaf.stream_sequence
    if (at + 1, trust) != (size, trusted):
        raise NotProven(f"the tail ends after leaf {at}, the checkpoint has {size} leaves")


def check_tree(bundle: Bundle, last: Whole, told: Checkpoint) -> None:
    """That every leaf shown whole, and the run's last one with the tail, lead to the root.

    Raises:
        NotProven: they do not.
    """
    for whole in bundle.leaves:
        try:
            leaf = leaf_hash(whole.leaf.encode())
            root = root_from_inclusion(leaf, whole.index, told.size, whole.proof)
        except NotProven as error:
            raise NotProven(f"{whole}: {error}") from error
        if root != told.root:
            raise NotProven(f"{whole}: its inclusion proof leads to another root")
    try:
        tail = (leaf_hash(leaf.encode()) for leaf in bundle.tail)
        root = root_from_edge(last.index + 1, bundle.edge, tail)
    except NotProven as error:
        raise NotProven(f"the edge: {error}") from error
    if root != told.root:
        raise NotProven("the edge and the tail lead to another root")
