"""Every error that may leave the service, each with a stable code and an HTTP status (RFC 9457; P3).

Doors render a :class:`FlexError` as ``application/problem+json``; anything else is a bug and becomes a bare 500.
The docstring of a class is its default message.
"""

from __future__ import annotations

from contracts.problems import ErrorItem as ErrorItem
from contracts.problems import FlexError as FlexError


class BadRequest(FlexError):
    """The request is not well formed."""

    status, code, title = 400, "bad_request", "Bad request"


class BadJson(BadRequest):
    """The body is not JSON."""

    code = "bad_json"


class BadHeader(BadRequest):
    """A header has a value that cannot be used."""

    code = "bad_header"


class BadQuery(BadRequest):
    """A query parameter has a value that cannot be used."""

    code = "bad_query"


class ReattachWithGet(BadRequest):
    """Last-Event-ID needs an Idempotency-Key here; to attach to a run again, GET its events."""

    code = "reattach_with_get"


class HumanPayloadRequired(BadRequest):
    """People are awaited: send the prompt's id and a decision."""

    code = "human_payload_required"


class Unauthenticated(FlexError):
    """The caller is not known."""

    status, code, title = 401, "unauthenticated", "Not authenticated"


class BadToken(Unauthenticated):
    """The token is missing, or it is not the one of this address."""

    code = "bad_token"


class Forbidden(FlexError):
    """The caller may not do this."""

    status, code, title = 403, "forbidden", "Forbidden"


class ForeignOrigin(Forbidden):
    """A state change from a foreign Origin or to an unknown Host is refused."""

    code = "foreign_origin"


class NotAssigned(Forbidden):
    """The prompt is assigned to other people."""

    code = "not_assigned"


class RequesterExcluded(Forbidden):
    """Who asked for the run may not decide this prompt."""

    code = "requester_excluded"


class ActionNotAllowed(Forbidden):
    """The prompt does not offer this action."""

    code = "action_not_allowed"


class NotFound(FlexError):
    """There is no such thing, or it belongs to another tenant."""

    status, code, title = 404, "not_found", "Not found"


class RunNotFound(NotFound):
    """There is no such run."""

    code = "run_not_found"


class PromptNotFound(NotFound):
    """There is no such prompt."""

    code = "prompt_not_found"


class NodeNotFound(NotFound):
    """The run's plan has no such node."""

    code = "node_not_found"


class PolicyNotFound(NotFound):
    """The run has no such runtime policy."""

    code = "policy_not_found"


class FlowNotFound(NotFound):
    """There is no such flow."""

    code = "flow_not_found"


class ExecutionNotFound(NotFound):
    """There is no such execution, or it is not one of this flow."""

    code = "execution_not_found"


class TemplateNotFound(NotFound):
    """There is no such template."""

    code = "template_not_found"


class FlowVersionNotFound(NotFound):
    """The flow has no such version."""

    code = "flow_version_not_found"


class MemoryNotFound(NotFound):
    """Nothing is remembered under this key."""

    code = "memory_not_found"


class DocumentNotFound(NotFound):
    """The story has no such document."""

    code = "document_not_found"


class DocumentVersionNotFound(NotFound):
    """The document has no such version, or it is not kept any more."""

    code = "document_version_not_found"


class CapabilityNotFound(NotFound):
    """No such capability is registered here; register it (again)."""

    code = "capability_not_found"


class Conflict(FlexError):
    """The thing is in a state that does not allow this."""

    status, code, title = 409, "conflict", "Conflict"


class InvalidRunState(Conflict):
    """The run is in a state that does not allow this."""

    code = "invalid_run_state"


class NodeSettled(Conflict):
    """The node does not wait for this any more: it has ended, or another answer came first."""

    code = "node_settled"


class StalePlanVersion(Conflict):
    """The run's plan has another version by now."""

    code = "stale_plan_version"


class NodeImmutable(Conflict):
    """A node that has begun cannot change; name it in cancel, unless it has completed."""

    code = "node_immutable"


class PolicyNotFired(Conflict):
    """The policy is disabled, or it is not one that is fired by hand."""

    code = "policy_not_fired"


class PromptSettled(Conflict):
    """The prompt has been decided already."""

    code = "prompt_settled"


class AlreadyVoted(Conflict):
    """You have said something else about this prompt already; a vote is not changed."""

    code = "already_voted"


class PromptStale(Conflict):
    """What the prompt shows has changed since it was read."""

    code = "prompt_stale"


class PromptClaimed(Conflict):
    """Somebody else has claimed this prompt."""

    code = "prompt_claimed"


class ClaimNeedsOne(Conflict):
    """Several people have to decide this prompt, so nobody can claim it."""

    code = "claim_needs_one"


class DelegateVoted(Conflict):
    """Who you would pass your say on to has voted already."""

    code = "delegate_voted"


class QuorumUnreachable(Conflict):
    """Too few people would be left to reach the quorum."""

    code = "quorum_unreachable"


class TooManyDelegations(Conflict):
    """This prompt has been passed on too often."""

    code = "too_many_delegations"


class StaleRevision(Conflict):
    """It was changed since you read it; read it again."""

    code = "stale_revision"


class MemoryFull(Conflict):
    """The scope holds as many keys as it may; forget some."""

    code = "memory_full"


class TurnUnderWay(Conflict):
    """The answer that this turn goes on from is not there yet."""

    code = "turn_under_way"


class ConversationFull(Conflict):
    """The conversation has as many messages as it may."""

    code = "conversation_full"


class FlowInUse(Conflict):
    """Other flows run this one."""

    code = "flow_in_use"


class CapabilityConflict(Conflict):
    """This id and version is taken by another declaration; give it another version, or delete the other one."""

    code = "capability_conflict"


class FacetConflict(Conflict):
    """A facet of this name has another schema here; give yours another name."""

    code = "facet_conflict"


class TooManyCapabilities(Conflict):
    """No more capabilities can be registered here; delete some."""

    code = "too_many_capabilities"


class LinkNotFound(NotFound):
    """There is no such review link."""

    code = "link_not_found"


class LinkUsed(Conflict):
    """This review link has been used; it decides once."""

    code = "link_used"


class LinkExpired(FlexError):
    """This review link has expired; decide in the inbox instead."""

    status, code, title = 410, "link_expired", "Gone"


class RunPruned(FlexError):
    """The run has been pruned by retention."""

    status, code, title = 410, "run_pruned", "Gone"


class PreconditionFailed(FlexError):
    """What If-Match or If-None-Match says does not hold; nothing was changed."""

    status, code, title = 412, "precondition_failed", "Precondition failed"


class RevisionRequired(FlexError):
    """Say in If-Match which revision you have read."""

    status, code, title = 428, "revision_required", "Revision required"


class TooLarge(FlexError):
    """The body is larger than this service takes."""

    status, code, title = 413, "body_too_large", "Too large"


class NotJson(FlexError):
    """Bodies are application/json."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class Unprocessable(FlexError):
    """The body breaks its model."""

    status, code, title = 422, "unprocessable", "Request refused"


class EnvelopeInvalid(Unprocessable):
    """The envelope breaks its model."""

    code, title = "envelope_invalid", "Envelope refused"


class PlanInvalid(Unprocessable):
    """The plan breaks its rules."""

    code, title = "plan_invalid", "Plan refused"


class FlowInvalid(Unprocessable):
    """The flow cannot be used like this."""

    code, title = "flow_invalid", "Flow refused"


class TemplateInvalid(Unprocessable):
    """The template cannot be used like this."""

    code, title = "template_invalid", "Template refused"


class MemoryInvalid(Unprocessable):
    """This cannot be remembered like this."""

    code, title = "memory_invalid", "Memory refused"


class ConversationNotFound(NotFound):
    """There is no such conversation."""

    code = "conversation_not_found"


class MessageNotFound(NotFound):
    """There is no such message in this conversation."""

    code = "message_not_found"


class ConversationInvalid(Unprocessable):
    """The conversation cannot be used like this."""

    code, title = "conversation_invalid", "Conversation refused"


class CompletionInvalid(BadRequest):
    """The chat completion cannot be asked for like this."""

    code, title = "completion_invalid", "Completion refused"


class ModelNotFound(NotFound):
    """There is no such model."""

    code = "model_not_found"


class RegistrationInvalid(Unprocessable):
    """The declaration of the capability cannot be used."""

    code, title = "registration_invalid", "Registration refused"


class Unsupported(Unprocessable):
    """This service does not do that yet."""

    code = "unsupported"


class IdempotencyKeyReused(Unprocessable):
    """The Idempotency-Key was used with another body."""

    code = "idempotency_key_reused"


class AnswerInvalid(Unprocessable):
    """The answer does not fit the prompt's schema."""

    code = "answer_invalid"


class MixedPrompts(Unprocessable):
    """Only prompts of one kind, with the same actions and the same form, are decided together."""

    code = "mixed_prompts"


class ForkInvalid(Unprocessable):
    """The run cannot be forked like this; nothing was started."""

    code, title = "fork_invalid", "Fork refused"


class CallbackInvalid(Unprocessable):
    """The output does not fit what the node has to put out; nothing was changed, send it again."""

    code, title = "output_invalid", "Callback refused"


class DocumentInvalid(Unprocessable):
    """The document cannot be stored under this id."""

    code, title = "document_invalid", "Document refused"


class RunFailed(FlexError):
    """The run ended without a result."""

    status, code, title = 500, "run_failed", "Run failed"


class ServerBusy(FlexError):
    """The service is busy; try again later."""

    status, code, title = 503, "server_busy", "Busy"


class StoreUnavailable(FlexError):
    """The database did not answer; nothing was changed."""

    status, code, title = 503, "store_unavailable", "Busy"
