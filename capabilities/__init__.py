"""What can be done: how capabilities are written, the built-in ones, and their registry (F4, F15, R2).

This module is the public authoring surface; docs/capabilities.md shows its use.
"""

from capabilities.authoring import CapabilityBase, FunctionCapability, capability
from capabilities.declarations import DeclarationError, facet
from contracts.capability import Ask, Bundle, CallContext, CapabilityError, CapabilitySpec, Facet, Param, Result
from contracts.outcome import Usage
from contracts.prompts import Assignees, PromptKind, PromptSpec

__all__ = [
    "Ask",
    "Assignees",
    "Bundle",
    "CallContext",
    "CapabilityBase",
    "CapabilityError",
    "CapabilitySpec",
    "DeclarationError",
    "Facet",
    "FunctionCapability",
    "Param",
    "PromptKind",
    "PromptSpec",
    "Result",
    "Usage",
    "capability",
    "facet",
]
