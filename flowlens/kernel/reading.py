"""What one read of the kernel's maps yields: packed rows, no object per row."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one map: `count` packed keys and as many 16-byte values (count, sum; both u64)."""

    keys: memoryview
    values: memoryview
    count: int

    def rows(self, key_bytes: int) -> Iterator[tuple[bytes, int, int]]:
        """Each row as (raw key, count, sum)."""
        keys = struct.iter_unpack(f"{key_bytes}s", self.keys)
        for (key,), (count, total) in zip(keys, struct.iter_unpack("<QQ", self.values), strict=True):
            yield key, count, total


EMPTY = Table(memoryview(b""), memoryview(b""), 0)


class Reading(NamedTuple):
    """One pass over the maps. `totals` has 32-byte keys, `flows` and `live` 64-byte keys (see `layout`).

    `totals` and `flows` come in batches that share a buffer: each is read from the kernel when it is asked for, and valid
    until the next is. So 65,536 flows need no 5 MiB to be read into. `live` has one row (count 1) per open connection,
    and only where `connections` has flow labels.
    """

    totals: Iterable[Table]
    flows: Iterable[Table]
    live: Table = EMPTY
