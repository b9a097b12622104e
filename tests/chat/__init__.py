"""Chats over HTTP: a model with tools, conversations, and the door that OpenAI's clients know (W6)."""
