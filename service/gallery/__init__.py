"""The templates that come with flex: one YAML file each, its name is the template's id (W3)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from contracts.errors import TemplateInvalid
from contracts.templates import TemplateDocument
from contracts.wire import read_model
from service.exchange import from_yaml


@cache
def shipped() -> Mapping[str, Any]:
    """Return the documents by id, in the order of their names. A file that is no template does not start."""
    found: dict[str, Any] = {}
    for file in sorted(files(__package__).iterdir(), key=lambda each: each.name):
        name, dot, ending = file.name.rpartition(".")
        if dot and ending == "yaml":
            document = from_yaml(file.read_text(encoding="utf-8"))
            read_model(TemplateDocument, document, TemplateInvalid)
            found[name] = document
    return found
