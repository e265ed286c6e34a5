"""RFC 6962 Merkle trees, seen from outside: hashes and the checks of proofs.

Source: RFC 9162 sections 2.1.3.2 and 2.1.4.2, which write these checks out.
"""

import hashlib
from collections.abc import Iterable, Sequence

from swarm.verify.text import NotProven


def leaf_hash(leaf: bytes) -> bytes:
    """Hash of one entry."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of two subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root that an inclusion proof leads to.

    Raises:
        NotProven: it is too short or too long for that place.
    """
    if index >= size:
        raise NotProven(f"there is no leaf {index} in a tree of {size} leaves")
    computed = leaf
    for sibling, is_left in zip(proof, _sides(index, size - 1, len(proof)), strict=True):
        computed = node_hash(sibling, computed) if is_left else node_hash(computed, sibling)
    return computed


def check_consistency(
    old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Accept only a proof that the larger tree begins with the smaller one.

    Raises:
        NotProven: anything else.
    """
    if not 0 < old <= new:
        raise NotProven(f"a tree of {old} leaves is no beginning of one of {new}")
    if old == new:
        if proof or old_root != new_root:
            raise NotProven(f"there are two trees of {old} leaves")
        return
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        raise NotProven("the proof is empty")
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = path[0]
    siblings = path[1:]
    for sibling, is_left in zip(siblings, _sides(at, last, len(siblings)), strict=True):
        first = node_hash(sibling, first) if is_left else first
        second = node_hash(sibling, second) if is_left else node_hash(second, sibling)
    if (first, second) != (old_root, new_root):
        raise NotProven("the proof leads to other roots: one of the two logs is a fork")


def root_from_edge(size: int, edge: Sequence[bytes], leaves: Iterable[bytes]) -> bytes:
    """The root of a tree that goes on from its complete subtrees, largest first.

    Args:
        size: leaves that the subtrees have together.
        edge: their hashes, one for each set bit of size.
        leaves: hashes of the leaves that follow.

    Raises:
        NotProven: a tree of that size has another number of subtrees.
    """
    hashes = list(edge)
    if len(hashes) != size.bit_count():
        raise NotProven(f"a tree of {size} leaves has another number of complete subtrees")
    for leaf in leaves:
        node, at = leaf, size
        while at & 1:
            node, at = node_hash(hashes.pop(), node), at >> 1
        hashes.append(node)
        size += 1
    computed = hashes[-1]
    for left in reversed(hashes[:-1]):
        computed = node_hash(left, computed)
    return computed


def _sides(at: int, last: int, steps: int) -> list[bool]:
    """Whether each sibling on the way to the root stands on the left.

    Args:
        at: where the way begins in a row of nodes.
        last: where the row ends.
        steps: how many siblings there are.
    """
    sides: list[bool] = []
    for _ in range(steps):
        if last == 0:
            raise NotProven("the proof is longer than the tree is high")
        sides.append(bool(at & 1) or at == last)
        while sides[-1] and at and not at & 1:
            at, last = at >> 1, last >> 1
        at, last = at >> 1, last >> 1
    if last:
        raise NotProven("the proof ends before the root")
    return sides
