"""Every fault there is; ``none`` shows that the harness by itself breaks nothing."""

from tests.chaos.faults.base import Fault, Shake
from tests.chaos.faults.databases import DATABASES
from tests.chaos.faults.processes import PROCESSES
from tests.chaos.faults.surroundings import SURROUNDINGS

NONE = Fault("none", "nothing: what the load does by itself", Shake, 100, (3.0, 4.0))
FAULTS = (NONE, *PROCESSES, *DATABASES, *SURROUNDINGS)
__all__ = ["BY_NAME", "FAULTS", "NONE", "Fault", "Shake"]
BY_NAME = {fault.name: fault for fault in FAULTS}
