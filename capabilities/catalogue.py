"""The built-in facets and capabilities: two literal tuples. To add a capability, write its file and add a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from capabilities import copy_facets, data_facets, document_facets, release_facets, web_facets
from capabilities.authoring import CapabilityBase
from capabilities.copy_template import copy_template
from capabilities.csv_parse import csv_parse
from capabilities.document_read import document_read
from capabilities.documents_search import DocumentsSearch
from capabilities.http_request import HttpGet, HttpPost
from capabilities.human_provide import HumanProvide
from capabilities.json_transform import json_transform
from capabilities.llm_generate import CopyLlm, LlmGenerate
from capabilities.log_parse import log_parse
from capabilities.profile_summary import profile_summary
from capabilities.record_check import record_clean, record_validate
from capabilities.release_notes import notes_write, records_group
from capabilities.text_template import text_template
from capabilities.world import World
from contracts.capability import Capability, Facet

Entry = Capability | Callable[[World], CapabilityBase]
"""A capability, or a class that is given the world."""

FACETS: Final[tuple[Facet, ...]] = (
    *copy_facets.FACETS,
    *release_facets.FACETS,
    *data_facets.FACETS,
    *web_facets.FACETS,
    *document_facets.FACETS,
)

CAPABILITIES: Final[tuple[Entry, ...]] = (
    copy_template,
    CopyLlm,
    profile_summary,
    log_parse,
    records_group,
    notes_write,
    csv_parse,
    record_clean,
    record_validate,
    document_read,
    DocumentsSearch,
    text_template,
    json_transform,
    HttpGet,
    HttpPost,
    LlmGenerate,
    HumanProvide(),
)
