"""What a script saw that uses a cluster of Ray: in a process of its own, with a module that it measures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 900  # on a machine with much other work


def seen_by(script: str, folder: Path, file: str, module: str, **settings: str) -> Any:
    """The content of the ``file`` that ``script`` writes to ``folder``, which has ``module`` as ``mypkg``."""
    (folder / "mypkg.py").write_text(module)
    environ = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(folder), "COLUMNS": "120"} | settings
    ran = subprocess.run(
        [sys.executable, "-m", script],
        cwd=folder,
        env=environ,
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return json.loads((folder / file).read_text("utf-8"))
