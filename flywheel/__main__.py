"""The `flywheel` command, also as `python -m flywheel`: an interrupt while the rest still loads is one line, too."""

from __future__ import annotations

import sys

from flywheel.interrupts import interrupted


def main() -> int:
    """Run one command; return its exit code."""
    try:
        from flywheel.cli import main as command  # takes a second, in which Ctrl-C may come

        return command()
    except KeyboardInterrupt:
        return interrupted("stopped; nothing was begun")


if __name__ == "__main__":
    sys.exit(main())
