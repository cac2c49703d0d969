"""For each fault: is its rule and line named, is the doctor silent on the fixed twin, is the predicted gain true?

python -m suites.faults [CASE ...] [--repeats N] [--folder FOLDER] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from suites.faults.corpus import Case, Outcome, cases_in, judged
from suites.faults.report import summary, table

CASES = Path(__file__).with_name("cases")
ENOUGH = 0.95  # of the faults


def main() -> int:
    """Status 0 if enough faults are named, no twin has a finding, and counts are equal in repeats."""
    parser = argparse.ArgumentParser(prog="python -m suites.faults", description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help="default: all")
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="runs of the doctor, default %(default)s")
    parser.add_argument("--folder", type=Path, default=CASES, help="of the cases, default %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was seen to FILE")
    options = parser.parse_args()
    outcomes: list[Outcome] = []
    for case in cases_in(options.folder, options.cases):
        outcome = judged(case, _run, options.repeats)
        outcomes.append(outcome)
        print("\n".join(table([outcome], heading=len(outcomes) == 1)), flush=True)
    print("\n".join(summary(outcomes)))
    if options.json is not None:
        options.json.write_text(json.dumps([outcome.to_json() for outcome in outcomes], indent=1))
    named = sum(outcome.named for outcome in outcomes)
    good = all(outcome.silent and outcome.same_counts for outcome in outcomes)
    return 0 if good and named >= ENOUGH * len(outcomes) else 1


def _run(case: Case, what: str) -> dict[str, object]:
    """One run of a child process in the case's folder, and what it printed: findings, or times of epochs."""
    began = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-m", "suites.faults.child", what, str(case.folder)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if ran.returncode:
        return {"error": ran.stderr.strip().splitlines()[-1:] or [f"status {ran.returncode}"], "seconds": 0.0}
    return {**json.loads(ran.stdout.splitlines()[-1]), "seconds": time.monotonic() - began}


if __name__ == "__main__":
    sys.exit(main())
