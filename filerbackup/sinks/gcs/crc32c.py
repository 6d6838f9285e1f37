"""The CRC-32C of a whole from those of its pieces, without the bytes.

The service gives a checksum of each part and of what was put together from them: so it is known that
the whole is just these parts in this order. Appending `n` zero bytes to a text is a linear map of its
checksum, over bits; maps for powers of two are put together by squaring.
"""

from __future__ import annotations

from collections.abc import Iterable

_POLYNOMIAL = 0x82F63B78
"""Castagnoli's, with the lowest bit first."""
_Map = tuple[int, ...]


def combined(pieces: Iterable[tuple[int, int]]) -> int:
    """The checksum of the pieces one behind the other; each is (checksum, length in bytes)."""
    total = 0
    for checksum, size in pieces:
        total = _after_zeros(total, size) ^ checksum
    return total


def _apply(matrix: _Map, vector: int) -> int:
    result, index = 0, 0
    while vector:
        if vector & 1:
            result ^= matrix[index]
        vector >>= 1
        index += 1
    return result


def _squared(matrix: _Map) -> _Map:
    return tuple(_apply(matrix, column) for column in matrix)


def _powers(count: int) -> list[_Map]:
    """Maps for 1, 2, 4, 8 … zero bytes."""
    bit: _Map = (_POLYNOMIAL, *(1 << shift for shift in range(31)))
    matrix = _squared(_squared(_squared(bit)))
    powers = [matrix]
    for _ in range(count - 1):
        matrix = _squared(matrix)
        powers.append(matrix)
    return powers


_ZERO_BYTES = _powers(44)
"""Enough for 2^44 bytes, more than any object has."""


def _after_zeros(checksum: int, size: int) -> int:
    for power in _ZERO_BYTES:
        if not size or not checksum:
            return checksum
        if size & 1:
            checksum = _apply(power, checksum)
        size >>= 1
    return checksum
