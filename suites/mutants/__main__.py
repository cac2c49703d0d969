"""``python -m suites.mutants``: damaged files of every format, counted by the result; status 1 if one is bad.

Good results are the right rows, a DataError, and other rows if the format has no checksum. A crash inside a library is
named; `data check` must survive it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

from suites.mutants.pool import CHECK, CRASH, HANG, READ, outcomes
from suites.mutants.reading import ERROR, FOREIGN, OTHER_ROWS, RIGHT, WRONG, Outcome
from suites.mutants.sound import MAKERS, make

KINDS = (RIGHT, ERROR, OTHER_ROWS, WRONG, FOREIGN, CRASH, HANG)
BAD = (WRONG, FOREIGN, HANG)
_LONGEST = 240  # characters of an outcome that is shown


def is_bad(verb: str, outcome: Outcome) -> bool:
    """Whether the project is at fault."""
    return outcome.kind in BAD or (verb == CHECK and outcome.kind == CRASH)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m suites.mutants", description=__doc__)
    parser.add_argument("--format", nargs="+", choices=list(MAKERS), default=list(MAKERS), dest="formats")
    parser.add_argument("--count", type=int, default=100, help="mutants of each format (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first one (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="child processes (default: %(default)s)")
    parser.add_argument("--check-every", type=int, default=500, help="call data check on one in so many (0: never)")
    parser.add_argument("--show", type=int, default=20, help="bad outcomes and crashes to print (default: %(default)s)")
    return parser.parse_args()


def main() -> int:
    options, bad = _arguments(), 0
    print("| format | mutants | " + " | ".join(KINDS) + " | bad |")  # noqa: T201 a command prints
    print("|---" * (len(KINDS) + 3) + "|", flush=True)  # noqa: T201
    for name in options.formats:
        began_s, counts, shown = time.monotonic(), Counter[str](), []
        faults = 0
        indices = range(options.first, options.first + options.count)
        with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as folder:
            make(name, Path(folder) / "sound")
            ways = {"workers": options.workers, "check_every": options.check_every}
            for index, verb, outcome in outcomes(name, Path(folder), options.seed, indices, **ways):
                if verb == READ:
                    counts[outcome.kind] += 1
                faults += is_bad(verb, outcome)
                if outcome.kind == CRASH or is_bad(verb, outcome):
                    text = f"{outcome.kind}: {outcome.what} {outcome.text}"[:_LONGEST]
                    shown.append(f"--format {name} --seed {options.seed} --first {index} --count 1 ({verb}) {text}")
        cells = " | ".join(f"{counts[kind]:,}" for kind in KINDS)
        print(f"| `{name}` | {options.count:,} | {cells} | {faults} |", flush=True)  # noqa: T201
        for line in shown[: options.show]:
            print(f"  {line}", flush=True)  # noqa: T201
        print(f"  ({time.monotonic() - began_s:.0f} s)", flush=True)  # noqa: T201
        bad += faults
    return bad > 0


if __name__ == "__main__":
    raise SystemExit(main())
