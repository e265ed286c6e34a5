"""RFC 6962 Merkle trees: hashes, a growing frontier, proofs and their checks.

Pure functions over SHA-256 hashes; nothing here reads or writes. A tree of any
size is described by its complete subtrees: node (level, index) covers the
leaves [index * 2**level, (index + 1) * 2**level) and never changes once all of
them exist. That is what is stored, and all that a proof reads.

Source: RFC 6962 section 2.1; the checks follow RFC 9162 sections 2.1.3.2 and
2.1.4.2, which spell out the verifying side of the same proofs.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from storage.errors import BadProof

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the tree without leaves."""

GetNode = Callable[[int, int], bytes]
"""Reads the hash of complete subtree (level, index)."""


def leaf_hash(leaf: bytes) -> bytes:
    """Hash of one entry, in a domain of its own so that no node can pass for a leaf."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of the parent of two subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Node:
    """One complete subtree: its height above the leaves, its place in that row, its hash."""

    level: int
    index: int
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """All that a growing tree must remember: its size and its right edge.

    Attributes:
        size: number of leaves.
        hashes: roots of the complete subtrees that make up the tree, largest
            first; one for each set bit of size.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            message = f"a tree of {self.size} leaves has another number of right-edge hashes"
            raise ValueError(message)

    def append(self, leaf_hashes: Iterable[bytes]) -> tuple["Frontier", list[Node]]:
        """The tree with these leaves added, and every subtree that they completed.

        The result depends on the leaves alone, not on how they were batched.

        Args:
            leaf_hashes: 32-byte leaf hashes in log order.

        Returns:
            The new frontier, and the nodes to store: the leaves themselves
            (level 0) and each parent whose last leaf is among them.
        """
        size, edge, nodes = self.size, list(self.hashes), list[Node]()
        for leaf in leaf_hashes:
            node = Node(0, size, leaf)
            nodes.append(node)
            while node.index & 1:
                node = Node(node.level + 1, node.index >> 1, node_hash(edge.pop(), node.hash))
                nodes.append(node)
            edge.append(node.hash)
            size += 1
        return Frontier(size=size, hashes=tuple(edge)), nodes

    def root(self) -> bytes:
        """The tree's root hash."""
        return _fold(self.hashes)


def edge_nodes(size: int) -> list[tuple[int, int]]:
    """The (level, index) of each right-edge subtree of a tree, largest first."""
    return list(_cover(0, size))


def load_frontier(size: int, get_node: GetNode) -> Frontier:
    """The frontier of a stored tree, read in as many nodes as size has set bits."""
    return Frontier(size=size, hashes=tuple(get_node(*at) for at in edge_nodes(size)))


def inclusion_proof(index: int, size: int, get_node: GetNode) -> list[bytes]:
    """Proves that leaf `index` is in the tree of the first `size` leaves.

    Args:
        index: the leaf, counted from 0.
        size: number of leaves of the tree that the proof is for.
        get_node: reads complete subtrees; called O(log size) times.

    Raises:
        ValueError: there is no such leaf in a tree of that size.
    """
    if not 0 <= index < size:
        message = f"leaf {index} is not in a tree of {size} leaves"
        raise ValueError(message)
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        split = start + _split(end - start)
        if index < split:
            path.append(_range_root(split, end, get_node))
            end = split
        else:
            path.append(_range_root(start, split, get_node))
            start = split
    return path[::-1]


def consistency_proof(old: int, new: int, get_node: GetNode) -> list[bytes]:
    """Proves that the tree of `old` leaves is a prefix of the tree of `new` leaves.

    The proof is empty where there is nothing to show: old is 0 or equals new.

    Raises:
        ValueError: old is negative or larger than new.
    """
    if not 0 <= old <= new:
        message = f"a tree of {old} leaves cannot be a prefix of one of {new}"
        raise ValueError(message)
    if old in {0, new}:
        return []
    path: list[bytes] = []
    start, end = 0, new
    while end != old:
        split = start + _split(end - start)
        if old <= split:
            path.append(_range_root(split, end, get_node))
            end = split
        else:
            path.append(_range_root(start, split, get_node))
            start = split
    if start:  # RFC 6962: the old root itself is left out, since the verifier has it
        path.append(_range_root(start, end, get_node))
    return path[::-1]


def verify_inclusion(
    *, leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Accepts only a proof that leaf hash `leaf` stands at `index` under `root`.

    Raises:
        BadProof: anything else.
    """
    if not 0 <= index < size:
        message = f"Leaf {index} is not in a tree of {size} leaves."
        raise BadProof(message)
    computed = leaf
    for sibling, is_left in _climb(index, size - 1, proof):
        computed = node_hash(sibling, computed) if is_left else node_hash(computed, sibling)
    if computed != root:
        raise BadProof("The inclusion proof leads to another root.")


def verify_consistency(
    *, old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """Accepts only a proof that the tree under `new_root` extends the one under `old_root`.

    Raises:
        BadProof: anything else.
    """
    if not 0 <= old <= new:
        message = f"A tree of {old} leaves cannot be a prefix of one of {new}."
        raise BadProof(message)
    if old in {0, new}:
        _verify_trivial(old, new, proof, old_root, new_root)
        return
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        raise BadProof("The consistency proof is empty.")
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    from_old = from_new = path[0]
    for sibling, is_left in _climb(at, last, path[1:]):
        from_new = node_hash(sibling, from_new) if is_left else node_hash(from_new, sibling)
        from_old = node_hash(sibling, from_old) if is_left else from_old
    if from_old != old_root:
        raise BadProof("The consistency proof does not start from the old root.")
    if from_new != new_root:
        raise BadProof("The consistency proof leads to another new root.")


def _verify_trivial(
    old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    if proof:
        raise BadProof("The consistency proof should be empty for these sizes.")
    if old == 0 and old_root != EMPTY_ROOT:
        raise BadProof("The old root is not that of an empty tree.")
    if old == new and old_root != new_root:
        raise BadProof("Two roots are given for one tree size.")


def _climb(at: int, last: int, proof: Sequence[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each sibling on the way up from node `at` of a row that ends at `last`, and its side."""
    for sibling in proof:
        if last == 0:
            raise BadProof("The proof is longer than the tree is high.")
        is_left = bool(at & 1) or at == last
        yield sibling, is_left
        while is_left and at and not at & 1:
            at, last = at >> 1, last >> 1
        at, last = at >> 1, last >> 1
    if last:
        raise BadProof("The proof ends before the root.")


def _split(leaves: int) -> int:
    """RFC 6962's k: the largest power of two smaller than the number of leaves."""
    return 1 << (leaves - 1).bit_length() - 1


def _cover(start: int, end: int) -> Iterable[tuple[int, int]]:
    """Complete subtrees that cover the leaves [start, end), where start fits the largest."""
    while start < end:
        level = (end - start).bit_length() - 1
        yield level, start >> level
        start += 1 << level


def _range_root(start: int, end: int, get_node: GetNode) -> bytes:
    return _fold([get_node(*at) for at in _cover(start, end)])


def _fold(hashes: Sequence[bytes]) -> bytes:
    if not hashes:
        return EMPTY_ROOT
    computed = hashes[-1]
    for left in reversed(hashes[:-1]):
        computed = node_hash(left, computed)
    return computed
