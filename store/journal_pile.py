"""What waits for the journal: one entry per run, later appends merged into it."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from contracts.lifecycle import RUN_TERMINAL, PromptStatus
from store.rows import Birth, Born, RunWrite, Written

_TERMINAL: Final = frozenset(str(status) for status in RUN_TERMINAL)


class Fenced(Exception):
    """The lease is lost: another epoch, another last event, or an ended run. Drop the run from memory."""


class WriteRefused(Exception):
    """The database refused this run's data; nothing of this write is stored, the others of its batch are."""


@dataclass(slots=True)
class Entry:
    """One run's transitions that are committed together, and who waits for that.

    ``uncertain`` says that the connection was lost while the entry was being committed: it may be in. ``since`` is
    monotonic seconds. ``followers`` are births with the same idempotency key, answered with what became of this one.
    """

    run_id: str
    write: RunWrite
    since: float
    birth: Birth | None = None
    born: Future[Born] | None = None
    written: list[Future[Written]] = field(default_factory=list)
    uncertain: bool = False
    settled: bool = False
    followers: list[Entry] = field(default_factory=list)

    @property
    def terminal(self) -> bool:
        """Say whether the run ends with this entry."""
        return self.write.status in _TERMINAL

    def passed(self, released: bool, inbox: int) -> None:
        """Tell everybody that the entry is committed."""
        self.settled = True
        if self.born is not None and not self.born.done():
            self.born.set_result(Born(self.run_id))
        for waiting in self.written:
            if not waiting.done():
                waiting.set_result(Written(released, inbox))

    def existing(self, run_id: str, fingerprint: str) -> None:
        """Tell the birth that its key belongs to an earlier run; what followed it is void."""
        self.settled = True
        if self.born is not None and not self.born.done():
            self.born.set_result(Born(run_id, existing=True, fingerprint=fingerprint))
        self._fail_written(Fenced(self.run_id))

    def born_elsewhere(self) -> None:
        """Tell the birth that it is in, and what followed it that somebody else holds the run by now."""
        self.settled = True
        if self.born is not None and not self.born.done():
            self.born.set_result(Born(self.run_id))
        self._fail_written(Fenced(self.run_id))

    def failed(self, error: Exception) -> None:
        """Tell everybody that nothing is written."""
        self.settled = True
        if self.born is not None:
            if not self.born.done():
                self.born.set_exception(error)
            error = Fenced(self.run_id)
        self._fail_written(error)

    def _fail_written(self, error: Exception) -> None:
        for waiting in self.written:
            if not waiting.done():
                waiting.set_exception(error)


class Pile:
    """Entries in order of arrival; at most one per run, unless a write does not follow on the one that waits."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._behind: list[Entry] = []

    def __len__(self) -> int:
        return len(self._entries) + len(self._behind)

    def __iter__(self) -> Iterator[Entry]:
        yield from self._entries.values()
        yield from self._behind

    def add_birth(self, birth: Birth, born: Future[Born], now: float) -> None:
        """Add a run that is accepted."""
        entry = Entry(birth.run.run_id, birth.write, now, birth=birth, born=born)
        if entry.run_id in self._entries:
            self._behind.append(entry)
        else:
            self._entries[entry.run_id] = entry

    def add_write(self, write: RunWrite, written: Future[Written], now: float) -> None:
        """Add a transition, merged into the run's entry where it follows on that."""
        entry = self._entries.get(write.run_id)
        if entry is None:
            self._entries[write.run_id] = Entry(write.run_id, write, now, written=[written])
        elif _follows(write, entry):
            merge(entry.write, write)
            entry.written.append(written)
        else:
            self._behind.append(Entry(write.run_id, write, now, written=[written]))

    def take(self, limit: int) -> list[Entry]:
        """Take up to ``limit`` entries, oldest first."""
        if len(self._entries) <= limit:
            taken = list(self._entries.values())
            self._entries.clear()
        else:
            taken = [self._entries.pop(run_id) for run_id in list(self._entries)[:limit]]
        behind, self._behind = self._behind, []
        self.put_back(behind)
        return taken

    def put_back(self, entries: Iterable[Entry]) -> None:
        """Add entries as they are, for a later batch."""
        for entry in entries:
            if entry.run_id in self._entries:
                self._behind.append(entry)
            else:
                self._entries[entry.run_id] = entry

    def remove(self, entries: Iterable[Entry]) -> None:
        """Drop these entries."""
        gone = {id(entry) for entry in entries}
        self._behind = [entry for entry in self._behind if id(entry) not in gone]
        for run_id in [run_id for run_id, entry in self._entries.items() if id(entry) in gone]:
            del self._entries[run_id]


def _follows(write: RunWrite, entry: Entry) -> bool:
    held = entry.write
    return write.epoch == held.epoch and write.before_seq == held.after_seq and not entry.terminal


def reaches_out(write: RunWrite) -> bool:
    """Say whether the write concerns other runs too: births of child runs, mail."""
    return bool(write.spawned or write.mail)


def merge(held: RunWrite, later: RunWrite) -> None:
    """Make ``held`` say what both say, one after the other; ``later`` is used up."""
    held.after_seq, held.status, held.waiting_on_json = later.after_seq, later.status, later.waiting_on_json
    held.wake_at, held.plan_version, held.seen = later.wake_at, later.plan_version, later.seen
    held.release, held.ledger_json, held.ended_at = later.release, later.ledger_json, later.ended_at
    held.plan_hash = held.plan_hash if later.plan_hash is None else later.plan_hash
    held.started_at = held.started_at if later.started_at is None else later.started_at
    for node_id in later.forgotten:
        held.nodes.pop(node_id, None)
        held.forgotten.append(node_id)
    held.nodes.update(later.nodes)
    held.events.extend(later.events)
    held.answered.extend(later.answered)
    held.prompts.extend(later.prompts)
    held.withdrawn.extend(later.withdrawn)
    held.plans.extend(later.plans)
    held.spawned.extend(later.spawned)
    held.mail.extend(later.mail)
    held.history = later.history
    held.memory.extend(later.memory)
    if later.plan is not None:
        if held.plan is not None:
            held.plans.append(held.plan)
        held.plan = later.plan


def tidy(write: RunWrite, now_ms: int) -> None:
    """Close the prompts that are raised and no longer wanted in one and the same write: none of them has a row yet."""
    if not write.prompts:
        return
    ends = write.status in _TERMINAL
    gone = set(write.withdrawn)
    for prompt in write.prompts:
        if (ends or prompt.prompt_id in gone) and prompt.status == PromptStatus.OPEN:
            prompt.status, prompt.settled_at = str(PromptStatus.WITHDRAWN), now_ms
    raised = {prompt.prompt_id for prompt in write.prompts}
    write.withdrawn = [prompt_id for prompt_id in write.withdrawn if prompt_id not in raised]
