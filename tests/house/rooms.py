"""Every room is covered, not only their sum: python -m tests.house.rooms COVERAGE.json.

Says nothing when every room reaches `fail_under` of pyproject.toml.
"""

import json
import sys
from collections import Counter
from pathlib import Path

from tests.house.measure import project, rooms


def covered(report: Path) -> dict[str, float]:
    """Percent of statements run, per room. A room without statements is covered."""
    statements, run = Counter[str](), Counter[str]()
    for name, entry in json.loads(report.read_text(encoding="utf-8"))["files"].items():
        room = Path(name).parts[0]
        statements[room] += entry["summary"]["num_statements"]
        run[room] += entry["summary"]["covered_lines"]
    return {room: 100 * run[room] / statements[room] if statements[room] else 100.0 for room in rooms()}


def main() -> int:
    """Exit 1 and name the rooms below the limit."""
    limit = project()["tool"]["coverage"]["report"]["fail_under"]
    low = {room: percent for room, percent in covered(Path(sys.argv[1])).items() if percent < limit}
    for room, percent in low.items():
        sys.stderr.write(f"coverage of {room} is {percent:.1f} %, below {limit} %\n")
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
