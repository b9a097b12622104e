"""People racing each other and every move of the clock, generated: over policies, actions and times (H3, H4, H7).

Whatever is done at once ends as if it had been done in some order, as told by an account of its own (``book.py``).
Would have survived kestra#18507: a leftover timer overwrote the human's input.
"""

import asyncio
from collections import Counter
from itertools import count
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.errors import FlexError
from contracts.prompts import DecisionInput, PromptPolicy
from store import prompts
from tests.hitl.book import CLOCK, PEOPLE, REQUESTER, Book, Move, outcomes
from tests.hitl.conftest import Office

EFFORT = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
_numbers = count()
NAMES = st.sampled_from(["ana", "ben", "ana", "ben", "cleo", "root"])
ASSIGNEES = st.sampled_from([{}, {}, {"users": ["user:ana", "user:ben"]}, {"users": ["user:cleo"], "roles": ["admin"]}])
SAYINGS = st.sampled_from([("approve", None), ("approve", None), ("reject", None), ("edit", 1), ("edit", 2)])


@st.composite
def policies(draw: st.DrawFn) -> PromptPolicy:
    """Any policy over seconds that tests pass quickly."""
    on_timeout = draw(
        st.sampled_from(
            ["wait", "approve", "reject", "default", "fail", "escalate", "escalate", "escalate", "escalate"]
        )
    )
    escalates = on_timeout == "escalate"
    last = draw(st.sampled_from([None, 1.0, 2.0]))
    many = draw(st.integers(1, 2)) if escalates else 0
    steps = [{"assignees": draw(ASSIGNEES), "due_seconds": last if n == many else 2.0} for n in range(1, many + 1)]
    given_: dict[str, Any] = {
        "assignees": draw(ASSIGNEES), "quorum": draw(st.sampled_from([1, 1, 2])), "veto": draw(st.booleans()),
        "exclude_requester": draw(st.booleans()), "on_timeout": on_timeout, "escalation": steps,
        "due_seconds": draw(st.sampled_from([1.0, 1.0, 3.0])),
        "remind_seconds": draw(st.sampled_from([[], [1.0, 2.0]])),
        "after_escalation": draw(st.sampled_from(["wait", "approve", "reject", "default", "fail"])),
        "default_answer": draw(st.sampled_from([7, "seven"])),
    }  # fmt: skip
    return PromptPolicy.model_validate(given_)


DECIDE = st.tuples(st.just("decide"), NAMES, SAYINGS).map(lambda each: ("decide", each[1], *each[2]))
MOVES = st.one_of(
    DECIDE,
    DECIDE,
    st.tuples(st.just("claim"), NAMES, st.sampled_from([False, False, True])),
    st.tuples(st.just("claim"), NAMES, st.just(False)),
    st.tuples(st.just("release"), NAMES),
    st.tuples(st.just("delegate"), NAMES, NAMES).filter(lambda each: each[1] != each[2]),
    st.tuples(st.just("withdraw"), st.sampled_from(["ana", "ben"])),
)
TICK: Move = ("tick",)
HANDING = MOVES.filter(lambda move: move[0] != "withdraw")


@st.composite
def rounds(draw: st.DrawFn) -> list[Any]:
    """A few moves, then a time about the next due one, then what is done at once: people and clocks."""
    steps: list[Any] = draw(st.lists(HANDING, max_size=2))
    steps.append(("wait", draw(st.sampled_from([500, 999, 1_000, 1_000, 2_000]))))
    steps += draw(st.lists(st.tuples(MOVES, MOVES | st.just(TICK)) | st.just((TICK, TICK)), min_size=1, max_size=2))
    return [*steps, TICK]


STEPS = st.lists(rounds(), min_size=1, max_size=3).map(lambda each: [step for round_ in each for step in round_])


class Table:
    """The real thing: one prompt of one run."""

    def __init__(self, office: Office, policy: PromptPolicy) -> None:
        number = next(_numbers)
        self.office, self.policy = office, policy
        self.run_id, self.prompt_id = f"run_{number}", f"prm_{number}"

    async def raise_(self) -> None:
        office, policy = self.office, self.policy
        now, seconds = office.clock.now, policy.due_seconds
        due_at = None if seconds is None else now + round(seconds * 1_000)
        first = min((now + round(each * 1_000) for each in policy.remind_seconds), default=None)
        assignees = {"roles": ["operator"]} if policy.assignees.nobody else policy.assignees.model_dump()
        row = office.prompt(
            self.prompt_id, self.run_id, schema={"type": "integer"}, quorum=policy.quorum, assignees=assignees,
            on_timeout=policy.on_timeout, due_at=due_at, notify_at=first, policy=policy, requester=REQUESTER,
        )  # fmt: skip
        await office.run(row, run_id=self.run_id)

    async def do(self, move: Move) -> str:
        """Make the move; return ``ok`` or the code it was refused with."""
        try:
            await self._do(*move)
        except FlexError as error:
            return error.code
        return "ok"

    async def _do(self, name: str, *more: Any) -> None:
        office = self.office
        if name == "tick":
            await office.sweep.tick()
            return
        who, *rest = PEOPLE[more[0]], *more[1:]
        match name:
            case "decide":
                answer = {} if rest[1] is None else {"answer": rest[1]}
                said = DecisionInput(action=rest[0], **answer)
                await office.desk.decide(who, self.prompt_id, said, "http")
            case "claim":
                await office.handing.claim(who, self.prompt_id, {"force": rest[0]})
            case "release":
                await office.handing.claim(who, self.prompt_id, {"release": True})
            case "delegate":
                await office.handing.delegate(who, self.prompt_id, {"to": f"user:{rest[0]}"})
            case "withdraw":
                await office.handing.withdraw(who, self.prompt_id, {})

    async def seen(self) -> dict[str, Any]:
        """What the book tells too."""
        row = await prompts.get(self.office.database, "default", self.prompt_id)
        assert row is not None
        shown = await self.office.prompts.get(PEOPLE["root"], self.prompt_id)
        votes = await prompts.votes_of(self.office.database, "default", self.prompt_id)
        assert sum(vote.winning for vote in votes) <= 1
        signals = await self.office.mail(self.run_id)
        for signal in signals:
            assert signal["status"] == row.status
            assert (signal["decision"] is not None) is any(vote.winning for vote in votes)
        return {
            "status": row.status, "level": row.level, "claimed_by": row.claimed_by, "on_timeout": row.on_timeout,
            "due": row.due_at, "votes": [(vote.decided_by, vote.action) for vote in votes],
            "delegations": [(each["from"], each["to"]) for each in shown["delegations"]],
            "records": dict(Counter(await self.office.kinds(self.prompt_id))), "signals": len(signals),
        }  # fmt: skip


def _moves(step: Move) -> list[Move]:
    return list(CLOCK) if step == TICK else [step]


def normal(seen: dict[str, Any]) -> dict[str, Any]:
    """Votes of one millisecond have no order of their own; records that count nothing are none."""
    records = {kind: many for kind, many in seen["records"].items() if many}
    return {**seen, "votes": sorted(seen["votes"]), "records": records}


@EFFORT
@given(policies(), STEPS)
async def test_whatever_happens_at_once_happened_in_some_order(
    office: Office, policy: PromptPolicy, steps: list[Any]
) -> None:
    """H3, H4: exactly one end, told once; every reminder and escalation once; nothing changes after the end."""
    table = Table(office, policy)
    book = Book(policy, office.clock.now)
    await table.raise_()
    for step in steps:
        if step[0] == "wait":
            office.clock.now += step[1]
            book.now += step[1]
        elif isinstance(step[0], tuple):
            said = await asyncio.gather(*(table.do(move) for move in step))
            seen = normal(await table.seen())
            ways = outcomes(book, _moves(step[0]), _moves(step[1]))
            fitting = [way for *codes, way in ways if codes == said and normal(way.seen()) == seen]
            assert fitting, (step, said, seen, book)
            book = fitting[0]
        else:
            codes = [book.do(move) for move in _moves(step)]
            assert await table.do(step) == codes[-1], (step, book)
            assert normal(await table.seen()) == normal(book.seen()), step
    await office.end(table.run_id)
