"""``flex agents``: what the agents folder holds, and what is wrong with it."""

from __future__ import annotations

from typing import Any

from app.commands.door import Place
from app.commands.opening import open_door
from app.commands.options import AsJson, DatabaseUrl, Url, carry_out


def agents(url: Url = None, database_url: DatabaseUrl = None, as_json: AsJson = False) -> None:
    """List the agents of FLEX_AGENTS_DIR; a broken file is named with its line. Ends with 1 if there is one."""

    async def work() -> int:
        from app.commands.exits import FAILED, OK
        from app.commands.screen import Screen, table

        async with open_door(Place(url, database_url)) as door:
            items: list[dict[str, Any]] = []
            cursor = None
            while True:
                page = await door.agents(cursor)
                items += page["items"]
                if (cursor := page["next_cursor"]) is None:
                    break
        screen = Screen()
        if as_json:
            screen.json({"items": items})
        else:
            screen.show(table(("agent", "kind", "file", "status", "why"), map(_row, items)))
        return FAILED if any(item["error"] for item in items) else OK

    carry_out(work())


def _row(item: dict[str, Any]) -> list[Any]:
    error = item["error"]
    place = f"{item['source']}:{error['line']}" if error and error["line"] else item["source"]
    why = f"{error['code']}: {error['message']}" if error else item["reason"] or ""
    return [item["agent_id"] or "", item["kind"], place, item["status"], why]
