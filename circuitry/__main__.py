"""``circuitry`` and ``python -m circuitry``: the command line."""

import sys


def main() -> None:
    """Run the command line. Ctrl-C ends it with one line, also while its commands are being imported."""
    try:
        from .cli import main as run
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
