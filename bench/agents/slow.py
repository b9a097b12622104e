"""A synchronous PocketFlow node that takes 200 ms, as a call to somebody's library might."""

import time
from typing import Any

from pocketflow import Flow, Node


class Slow(Node):  # type: ignore[misc]  # pocketflow ships no types
    """Blocks its thread."""

    def exec(self, prep_res: Any) -> str:
        """Sleep."""
        time.sleep(0.2)
        return "done"

    def post(self, shared: dict[str, Any], prep_res: Any, exec_res: str) -> str:
        """Leave the result."""
        shared["result"] = exec_res
        return "default"


flow = Flow(start=Slow())
