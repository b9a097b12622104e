"""Documents of stories: text out of what was uploaded, passages, search (R4; docs/documents.md)."""
