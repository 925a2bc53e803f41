"""Running totals per label set: grouping, `other` rows, expiry.

Adds, caps and forgets; what a row is called comes from outside, and what the numbers look like on a
page is the business of `exposition`. Counters never go down, and the series of a metric always sum up
to what the kernel counted (what expired, or is not selected, apart).
"""

from flowlens.series.ledger import Ledger, View

__all__ = ["Ledger", "View"]
