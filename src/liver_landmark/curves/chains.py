"""Pieces of curves that go on in each other, put in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# A piece and the end of it at which a chain enters: 0 its start, 1 its end.
PieceEnd = tuple[int, int]


def order_chains(
    pieces: Iterable[int], partners: Mapping[PieceEnd, PieceEnd]
) -> list[tuple[list[PieceEnd], bool]]:
    """Follows pieces from end to end.

    Args:
        pieces: Names of the pieces.
        partners: End of a piece -> the end of a piece that follows there, in both directions.

    Returns:
        For each chain its pieces in order, each with the end by which it is entered, and whether the last one
        goes on in the first.
    """
    pieces = list(pieces)
    left = set(pieces)
    chains = []
    open_starts = [(piece, side) for piece in pieces for side in (0, 1) if (piece, side) not in partners]
    # After the open ones only rings are left: they start anywhere.
    for start in open_starts + [(piece, 0) for piece in pieces]:
        if start[0] not in left:
            continue
        chain, entered = [], start
        while entered is not None and entered[0] in left:
            piece, side = entered
            left.discard(piece)
            chain.append(entered)
            entered = partners.get((piece, 1 - side))
        chains.append((chain, entered == start))
    return chains
