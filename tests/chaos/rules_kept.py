"""What must hold of what runs leave behind and of what they need first: memory (R5), documents (R4), turns (W6)."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.chaos.history import History, MemorySeen
from tests.chaos.judged import Found, each_run, frames
from tests.chaos.kept import COUNTER
from tests.chaos.talks import ANSWER

Writer = tuple[str, str]
"""run and node"""
SLACK_MS = 2.0
"""how exactly a database tells the time"""
AT_WORK = ("running", "completed")


# --- memory ----------------------------------------------------------------------------------------------------------


def memory(history: History) -> Found:
    """Each revision is given once, to one completed attempt; each completed attempt wrote exactly once (R5)."""
    written = Counter((write.run_id or "", write.node_id or "") for write in history.memory)
    for followed, run_id, run in each_run(history):
        for node_id in followed.spec.writes:
            expected = 1 if run.nodes.get(node_id) == "completed" else 0
            if written[run_id, node_id] != expected:
                status = run.nodes.get(node_id)
                yield run_id, f"{node_id} is {status} and wrote memory {written[run_id, node_id]} times"
    yield from _writers(history)
    yield from (("", fault) for fault in _revisions(history))
    yield from (("", fault) for fault in _counts(history))


def _writers(history: History) -> Found:
    """What is remembered names the attempt that completed, of a node that was to write."""
    ended: dict[Writer, set[int]] = defaultdict(set)
    for node in history.nodes:
        if node.status == "completed":
            ended[node.run_id, node.node_id].add(node.attempt)
    for write in history.memory:
        if write.revision is None:
            yield "", f"{write.key} in {write.scope} was forgotten by nobody"
        elif write.attempt not in ended[write.run_id or "", write.node_id or ""]:
            yield write.run_id or "", f"{_said(write)}, an attempt that did not complete"


def _revisions(history: History) -> Iterator[str]:
    """The numbers of a scope have no gap and no repetition, and what stands there is what was written last."""
    by_scope: dict[str, list[MemorySeen]] = defaultdict(list)
    for write in history.memory:
        by_scope[write.scope].append(write)
    for scope in by_scope.keys() | history.given.keys():
        found = sorted(write.revision or 0 for write in by_scope[scope])
        if found != list(range(1, len(found) + 1)):
            yield f"the revisions of {scope} are {found}"
        if history.given.get(scope) != len(found):
            yield f"{scope} stands at revision {history.given.get(scope)}, written were {len(found)}"
    last = {(write.scope, write.key): write.revision for write in history.memory}
    for place in last.keys() | history.remembered.keys():
        if last.get(place) != history.remembered.get(place):
            yield f"{place} stands at revision {history.remembered.get(place)}, written last was {last.get(place)}"


def _counts(history: History) -> Iterator[str]:
    """Nobody who adds one to a number by compare-and-set is lost."""
    found: dict[str, list[tuple[int, str | None]]] = defaultdict(list)
    for write in history.memory:
        if write.key == COUNTER:
            found[write.scope].append((write.revision or 0, write.value))
    for scope, writes in found.items():
        counted = [value for _, value in sorted(writes)]
        if counted != [str(number) for number in range(1, len(counted) + 1)]:
            yield f"{scope} was counted {counted}"


def _said(write: MemorySeen) -> str:
    return f"{write.key} in {write.scope} was written by {write.node_id} in attempt {write.attempt}"


# --- documents -------------------------------------------------------------------------------------------------------


def papers(history: History) -> Found:
    """Nothing is executed before all documents of the run's own story are there; then nobody waits (R1, R4)."""
    there: dict[tuple[str, str], float] = {}
    for paper in history.papers:
        there.setdefault((paper.story_id, paper.document_id), paper.at)
    for followed, run_id, run in each_run(history):
        key = followed.spec.key
        needed = {(each.story_id, each.document_id) for each in followed.spec.papers if each.story_id == key}
        if not needed:
            continue
        missing = needed - there.keys()
        whole = None if missing else max(there[each] for each in needed)
        for write in history.nodes:
            early = whole is None or write.at < whole - SLACK_MS
            if write.run_id == run_id and write.status in AT_WORK and early:
                yield run_id, f"{write.node_id} was {write.status} before its documents were there"
        if run.status == "waiting" and not missing:
            yield run_id, "it waits, and its documents are there"
    for run_id, document_id in history.waits:
        if run_id in history.runs:
            yield run_id, f"it is noted to wait for {document_id}, which is there"


# --- chats -----------------------------------------------------------------------------------------------------------


def turns(history: History) -> Found:
    """A turn is stored once, whoever repeats it: what was said, and the answer, which names its run (W6)."""
    for followed, run_id, run in each_run(history):
        if not followed.spec.talks:
            continue
        taken = [told for told in followed.told if told.status == 202]
        ids = {(told.conversation_id, told.message_id, told.run_id) for told in taken}
        if len(ids) != 1:
            yield run_id, f"one turn was told as {sorted(ids)}"
        for told in taken:
            found = [each for each in history.messages if each.conversation_id == told.conversation_id]
            if [(each.role, each.place, each.run_id) for each in found] != [
                ("user", 1, None),
                ("assistant", 2, run_id),
            ]:
                yield run_id, f"its conversation holds {found}"
            elif (found[1].message_id, found[1].parent_id) != (told.message_id, found[0].message_id):
                yield run_id, f"{told.message_id} was told, stored is {found[1]}"
        outputs = [frame["payload"]["output"] for frame in frames(run) if frame["type"] == "complete"]
        if any(output["text"] != ANSWER for output in outputs):
            yield run_id, f"it said {outputs}"
