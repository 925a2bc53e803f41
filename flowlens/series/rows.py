"""The rows that the kernel was seen to have: what each had counted, and into which slot it counts.

Numbers stand in arrays, so a row costs its key, one dict entry and about 30 bytes.
"""

from __future__ import annotations

from array import array

from flowlens.kernel import layout

ROW_KEY = layout.KEY.size
FLOW_KEY = layout.FLOW.size
OWNER_BYTES = 16
"""A key begins with cgroup id, netns inode and pid."""
NO_OWNER = bytes(OWNER_BYTES)
"""Owner of the rows made in advance, which take what found no room in the kernel's maps."""
GENERATION_AT, FAMILY_AT, ROLE_AT, METRIC_AT, DETAIL_AT, PORTS_AT = 16, 20, 21, 22, 24, 26
STEM_BYTES = PORTS_AT
"""What follows in the key is flow fields."""


class Rows:
    """`index`: raw key -> position in the arrays. `blame` numbers a (metric, cause) pair, 0: none.

    `slots[row] == TRASH`: the row is not exposed, or waits for its owner's name.
    """

    def __init__(self) -> None:
        self.index: dict[bytes, int] = {}
        self.slots = array("I")
        self.counts = array("Q")
        self.sums = array("Q")
        self.touched = array("I")
        self.blame = array("H")
        self._free: list[int] = []

    def add(self, key: bytes, place: tuple[int, int], value: tuple[int, int], now: int) -> int:
        """A row seen for the first time, with its (slot, blame) and (count, sum); returns its position."""
        if self._free:
            row = self._free.pop()
        else:
            row = len(self.slots)
            for numbers in (self.slots, self.counts, self.sums, self.touched, self.blame):
                numbers.append(0)
        self.index[key] = row
        self.slots[row], self.blame[row] = place
        self.counts[row], self.sums[row] = value
        self.touched[row] = now
        return row

    def remove(self, key: bytes) -> None:
        """Forgets a row."""
        row = self.index.pop(key)
        self.slots[row] = 0
        self._free.append(row)

    def of_metric(self, number: int) -> list[tuple[bytes, int]]:
        """Keys and positions of the rows of one metric."""
        return [(key, row) for key, row in self.index.items() if key[METRIC_AT] == number]

    def of_owners(self, owners: frozenset[bytes]) -> list[bytes]:
        """Keys of the rows whose first 16 bytes are one of these."""
        return [key for key in self.index if key[:OWNER_BYTES] in owners]
