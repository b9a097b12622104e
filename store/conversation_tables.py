"""Tables of conversations: what was said, and which run answers it (W6)."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from store.tables import metadata, number_column, text_column

conversations: Final = sa.Table(
    "conversations",
    metadata,
    text_column("conversation_id", key=True),
    text_column("tenant"),
    text_column("principal"),
    text_column("title"),
    # What its turns have in common: tools, instructions, a flow.
    text_column("settings_json"),
    # How many messages were ever added: the place of the newest one.
    number_column("messages"),
    number_column("created_at"),
    number_column("updated_at"),
)
sa.Index("ix_conversations_page", conversations.c.tenant, conversations.c.created_at, conversations.c.conversation_id)
sa.Index("ix_conversations_updated", conversations.c.tenant, conversations.c.updated_at)

# A tree: each message but the first ones answers its parent. What an assistant says is the output of its run, which is
# written once, by whoever holds the run; so its ``content`` is null here.
conversation_messages: Final = sa.Table(
    "conversation_messages",
    metadata,
    text_column("message_id", key=True),
    text_column("tenant"),
    text_column("conversation_id"),
    number_column("place"),
    text_column("parent_id", null=True),
    text_column("role"),
    text_column("content", null=True),
    text_column("run_id", null=True),
    # The caller's Idempotency-Key with its name, and the hash of what was asked under it.
    text_column("key", null=True),
    text_column("fingerprint", null=True),
    number_column("created_at"),
)
sa.Index(
    "ix_conversation_messages_place",
    conversation_messages.c.conversation_id,
    conversation_messages.c.place,
    unique=True,
)
sa.Index(
    "ix_conversation_messages_key",
    conversation_messages.c.conversation_id,
    conversation_messages.c.key,
    unique=True,
)
