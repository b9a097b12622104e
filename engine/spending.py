"""What a run may spend: looked at before every dispatch, and before a model is asked for another plan (F5)."""

from __future__ import annotations

from engine.turn import Turn


def overspent(turn: Turn) -> bool:
    """Say whether the run has spent more than its budget; if so it ends with ``budget_spent``."""
    budget, ledger = turn.state.envelope.policies.budget, turn.state.ledger
    if budget.tokens is not None and ledger.tokens > budget.tokens:
        turn.fail("budget_spent", f"{ledger.tokens:,} tokens are more than the budget of {budget.tokens:,}.")
        return True
    if budget.cost is not None and ledger.cost > budget.cost:
        turn.fail("budget_spent", f"A cost of {ledger.cost:.4f} is more than the budget of {budget.cost:g}.")
        return True
    return False
