"""asv benchmarks. In asv lower is always better: seconds, bytes, counts, and ratios of times."""

import sys
from pathlib import Path

# asv imports this folder alone; the tracks and their data are in its neighbours. Last, so that the package which is
# measured, installed or another commit's, comes before this checkout's.
sys.path.append(str(Path(__file__).parents[2]))
