"""The human in the loop: prompts, policies, decisions, notifications."""
