"""`python -m flowlens`: the same as the command `flowlens`."""

import sys

from flowlens import cli

if __name__ == "__main__":
    sys.exit(cli.main())
