"""`flowlens top`: a live table of a running agent's numbers, or one table for scripts with --once.

It reads /metrics like any other scraper and subtracts two scrapes; the agent knows nothing of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

from flowlens.cli import arguments, failure
from flowlens.cli.top import columns, endpoint, owners, plain, rates

ABOUT = (
    "Shows who connects, what fails, what is retransmitted and reset: rates per owner from a running\n"
    "agent. Keys: arrows or a column's letter sort, i inverts, q quits. p50 and p99 are handshake times\n"
    "of the interval, interpolated in histogram buckets as Prometheus does."
)
EXAMPLES = (
    ("flowlens top", "live, from the agent on this host"),
    ("flowlens top --sort failures --by container", "whose connections fail?"),
    ("flowlens top --once --limit 5 --sort retransmits", "the five that retransmit most, for a script"),
    ("flowlens top --once --json | jq '.owners[0]'", "the same for programs"),
    ("kubectl -n flow-lens port-forward pod/flow-lens-x7k2p 2112 & flowlens top", "an agent in a cluster"),
)


def main(argv: Sequence[str]) -> int:
    """Until q or Ctrl-C, or once; raises failure.CommandFailedError when there is no agent to ask."""
    options = _parse(argv)
    agent = endpoint.Endpoint.of(options.url, options.ca, insecure=options.insecure)
    if options.once:
        _once(agent, options)
        return 0
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise failure.CommandFailedError("flowlens top: this is no terminal: use --once, or --once --json")
    from flowlens.cli.top import screen  # noqa: PLC0415 - rich takes 0.2 s, and --once has no use for it

    view = screen.View(options.by, options.sort, options.limit)
    return screen.run(agent, view, options.interval)


def _once(agent: endpoint.Endpoint, options: argparse.Namespace) -> None:
    before = agent.scrape()
    time.sleep(options.interval)
    after = agent.scrape()
    column = columns.BY_NAME[options.sort]
    rows = columns.ordered(rates.between(before, after, owners.grouping(options.by)), column)
    shown = rows[: options.limit or None]
    if options.json:
        print(json.dumps(plain.document(before, after, options.by, shown), indent=2))
    else:
        print(plain.table(shown, options.by))


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    options = parser.read(argv)
    if options.json and not options.once:
        parser.error("--json goes with --once")
    return options


def _parser() -> arguments.Parser:
    parser = arguments.Parser("flowlens top", ABOUT, EXAMPLES)
    parser.flag(
        "--url",
        default="http://127.0.0.1:2112",
        type=str,
        metavar="URL",
        help="the agent (default: http://127.0.0.1:2112)",
    )
    parser.add_argument(
        "--sort",
        default="connects",
        type=arguments.one_of(tuple(columns.BY_NAME)),
        metavar="COLUMN",
        help=f"{', '.join(columns.BY_NAME)} (default: connects)",
    )
    parser.add_argument(
        "--by",
        default="workload",
        type=_grouping,
        metavar="WHAT",
        help=f"a row per {', '.join(owners.GROUPINGS)}, or per value of any label, such as dst_port or "
        "label_team (default: workload)",
    )
    parser.add_argument(
        "--interval",
        default=2.0,
        type=arguments.positive,
        metavar="SECONDS",
        help="time between two scrapes (default: 2)",
    )
    parser.add_argument(
        "--limit", default=0, type=_limit, metavar="N", help="at most N rows (default: all that fit)"
    )
    parser.add_argument("--once", action="store_true", help="print one table over one interval, and end")
    parser.add_argument("--json", action="store_true", help="with --once: print JSON")
    parser.add_argument(
        "--ca", default=None, metavar="FILE", help="certificate that vouches for an agent with TLS"
    )
    parser.add_argument("--insecure", action="store_true", help="accept any certificate")
    return parser


def _grouping(word: str) -> str:
    try:
        owners.grouping(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}{arguments.near(word, owners.words())}") from error
    return word


def _limit(text: str) -> int:
    if text.isascii() and text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
