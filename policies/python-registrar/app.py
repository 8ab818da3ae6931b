"""A registrar in Python: registers phones of our domains, and routes to them.

The contract is guest-sdk/wit, as it is for every language; `make python-policy` builds this.
"""

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import log, metrics, routing, usrloc
from wit_world.imports.log import Level
from wit_world.imports.types import (
    BranchVerdict,
    FailureVerdict_Forward,
    Method,
    Reply,
    ReplyVerdict,
    Traits,
    Verdict_Answered,
    Verdict_Relay,
    Verdict_Reply,
)

TABLE = "location"
# Methods that make dialogs (RFC 3261 12, RFC 6665): we stay in the way of these.
DIALOGS = {Method.INVITE, Method.SUBSCRIBE, Method.NOTIFY, Method.REFER}


def reply(status, reason=""):
    return Verdict_Reply(Reply(status, reason))


def register(request):
    """RFC 3261 10.3: `save` does what the REGISTER says and stages the answer."""
    if not request.traits & Traits.URI_IS_OURS:
        return reply(403, "Not Our Domain")
    try:
        usrloc.save(TABLE, "path-lazy, path-received", None)
    except Err as refused:
        log.write(Level.INFO, f"REGISTER refused: {refused.value}")
    return Verdict_Answered()


def to_user(request):
    """RFC 3261 16.5: to whoever is registered."""
    try:
        usrloc.lookup(TABLE, "method-filtering", None)
    except Err as refused:
        if isinstance(refused.value, usrloc.LookupError_MethodNotAllowed):
            return reply(405)
        return reply(480)
    if request.method in DIALOGS:
        routing.record_route()
    return Verdict_Relay()


class Handler(exports.Handler):
    """One function a phase; the manifest lists those that are asked."""

    def on_request(self, request):
        traits = request.traits
        if traits & Traits.IN_DIALOG:
            return Verdict_Relay() if traits & Traits.LOOSE_ROUTED else reply(404, "Not Here")
        if traits & Traits.PRELOADED_ROUTE and not traits & Traits.TRUSTED:
            return reply(403, "Route Not Allowed")
        if request.method == Method.REGISTER:
            return register(request)
        if traits & Traits.URI_IS_ROUTER:
            if request.method == Method.OPTIONS:
                return reply(200)
            return reply(404)
        if traits & Traits.URI_IS_OURS:
            return to_user(request)
        if traits & Traits.FROM_IS_OURS:
            return Verdict_Relay()
        metrics.add("relaying_refused", 1)
        return reply(403, "Relaying Denied")

    def on_branch(self, request):
        return BranchVerdict.SEND

    def on_reply(self, request, status):
        return ReplyVerdict.FORWARD

    def on_failure(self, request, status):
        return FailureVerdict_Forward()
