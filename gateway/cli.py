"""The command ``wasl``.

Each command lives in ``gateway/commands/`` and imports what it needs when it runs, so that
``wasl --version`` and completion are quick. Faults of configuration are printed one a line with
file and line; any other trouble is one sentence that says what to do. Exit status: 0 done, 1 not
done or faults found, 2 the command line was not understood.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Entry point of the console script."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from gateway.version import version

        print(f"wasl {version()}")
        return
    from gateway.commands import app
    from gateway.commands.console import explain

    try:
        app()
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        lines = explain(error)
        if lines is None:
            raise
        for line in lines:
            print(line, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
