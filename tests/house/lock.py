"""Write constraints.txt: every version a clean environment gets from pyproject.toml, and nothing else.

Standard library only: it runs before there is an environment (`make lock`).
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAD = (
    "# Every version flex and its tests run with. Written by `make lock`; direct dependencies are in pyproject.toml.\n"
)


def frozen() -> list[str]:
    """Install flex with its test extra into a temporary environment and return what pip froze there."""
    with tempfile.TemporaryDirectory(prefix="flex-lock-") as directory:
        venv.create(directory, with_pip=True)
        pip = [str(Path(directory) / "bin" / "pip"), "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", f"{ROOT}[test]"], check=True)
        shown = subprocess.run([*pip, "freeze", "--exclude", "flex"], check=True, capture_output=True, text=True)
    return shown.stdout.splitlines()


def main() -> int:
    """Rewrite the file, or refuse: a line that is not `name==version` would tie the lock to this machine."""
    lines = frozen()
    odd = [line for line in lines if "==" not in line or " " in line]
    if odd:
        sys.stderr.write("not a plain pin: " + ", ".join(odd) + "\n")
        return 1
    (ROOT / "constraints.txt").write_text(HEAD + "\n".join(sorted(lines, key=str.lower)) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
