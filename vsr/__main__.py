"""`python -m vsr`, and the command `vsr`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. Importing it takes a moment, in which an interrupt is no reason for a traceback."""
    try:
        from vsr.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
