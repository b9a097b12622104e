"""The end of a run: the answer is composed, checked as a whole, repaired by people or refused (F11)."""

from __future__ import annotations

from functools import partial
from typing import Any

from contracts.composition import compose
from contracts.events import Complete, ValidationFailed
from contracts.lifecycle import RunStatus
from engine import rules
from engine.asking import OUTPUT_REPAIR, ask_repair, repair_node
from engine.contract import as_wire
from engine.outputs import approved_output, bind
from engine.state import NOTHING
from engine.turn import Turn


def compose_final(turn: Turn) -> bool:
    """Compose the answer once; True when ``state.final`` is there and valid, False when it is not (yet)."""
    state = turn.state
    if state.final is not NOTHING:
        return True
    if any(prompt.node_id == OUTPUT_REPAIR for prompt in state.prompts.values()):
        return False
    output = _composed(turn)
    contract = turn.world.contracts.caller
    if contract.is_valid(output):
        state.final = output
        return True
    findings = as_wire(contract, output)
    turn.emit(ValidationFailed("final_output", 1, findings))
    fired = rules.validation_failed(turn, None)
    if not turn.ended() and not fired.put_off({"what": "answer"}):
        unmet(turn)
    return False


def unmet(turn: Turn) -> None:
    """The whole answer does not fit, and no rule keeps the policy from saying what happens: people, or the end."""
    output, contract = _composed(turn), turn.world.contracts.caller
    if turn.state.envelope.policies.on_output_invalid == "fail":
        findings = as_wire(contract, output)
        turn.fail("output_contract_unmet", "The output does not fit the caller's schema.", None, findings)
        return
    why = "The output does not fit its schema. Please repair it."
    ask_repair(turn, repair_node(turn), output, contract.schema, why)


def _composed(turn: Turn) -> Any:
    """Return the answer with the parts that are there; what is missing is for the contract to say."""
    output = turn.state.plan.graph.output
    present = {at: binding for at, binding in output.map.items() if bind(turn.state, binding) is not NOTHING}
    if not present:
        return None if "" in output.map else {}
    return compose(output.model_copy(update={"map": present}), partial(bind, turn.state))


def finish(turn: Turn) -> None:
    """End the run as completed, if its answer satisfies the contract."""
    if not compose_final(turn):
        return
    state = turn.state
    output = approved_output(state)
    ledger = state.ledger
    began = state.created_at
    turn.end(
        RunStatus.COMPLETED,
        Complete(
            output=output,
            duration_ms=max(0, turn.now - began - ledger.waited_ms),
            waited_ms=ledger.waited_ms,
            usage={"tokens": ledger.tokens, "cost": round(ledger.cost, 6)},
        ),
    )
