/*
 * A registrar in C: registers phones of our domains, and routes to them.
 *
 * The contract is guest-sdk/wit, as it is for every language; policy.h is made of it by wit-bindgen.
 * `make c-policy` builds this.
 */
#include <string.h>

#include "policy.h"

/* Longest line for the log, bytes. */
#define LINE_BYTES 256

typedef viaduct_policy_types_request_t request;
typedef viaduct_policy_types_verdict_t verdict;

/* A text for the host, which reads it during the call and keeps nothing. */
static policy_string_t text(const char *chars)
{
	return (policy_string_t){ (uint8_t *)chars, strlen(chars) };
}

static verdict relay(void)
{
	return (verdict){ .tag = VIADUCT_POLICY_TYPES_VERDICT_RELAY };
}

static verdict answered(void)
{
	return (verdict){ .tag = VIADUCT_POLICY_TYPES_VERDICT_ANSWERED };
}

/* The reason goes to the host, which frees it by `policy_string_free` when it has read it: it must be
 * from the heap. Empty: the registered one. */
static verdict reply(uint16_t status, const char *reason)
{
	verdict out = { .tag = VIADUCT_POLICY_TYPES_VERDICT_REPLY };

	out.val.reply.status = status;
	policy_string_dup(&out.val.reply.reason, reason);
	return out;
}

/* Methods that make dialogs (RFC 3261 12, RFC 6665): we stay in the way of these. */
static bool forms_dialog(viaduct_policy_types_method_t method)
{
	switch (method) {
	case VIADUCT_POLICY_TYPES_METHOD_INVITE:
	case VIADUCT_POLICY_TYPES_METHOD_SUBSCRIBE:
	case VIADUCT_POLICY_TYPES_METHOD_NOTIFY:
	case VIADUCT_POLICY_TYPES_METHOD_REFER:
		return true;
	default:
		return false;
	}
}

/* No printf: it writes to files, and policies have none. */
static void append(policy_string_t *line, const uint8_t *more, size_t bytes)
{
	if (bytes > LINE_BYTES - line->len)
		bytes = LINE_BYTES - line->len;
	memcpy(line->ptr + line->len, more, bytes);
	line->len += bytes;
}

static void log_refusal(const viaduct_policy_usrloc_save_error_t *error)
{
	static const char refused[] = "REGISTER refused: ";
	const policy_string_t *why = error->tag == VIADUCT_POLICY_USRLOC_SAVE_ERROR_REFUSED
					     ? &error->val.refused.reason
					     : &error->val.bad_flags;
	uint8_t chars[LINE_BYTES];
	policy_string_t line = { chars, 0 };

	append(&line, (const uint8_t *)refused, sizeof(refused) - 1);
	append(&line, why->ptr, why->len);
	viaduct_policy_log_write(VIADUCT_POLICY_LOG_LEVEL_INFO, &line);
}

/* RFC 3261 10.3: `save` does what the REGISTER says and stages the answer. */
static verdict register_phone(const request *request)
{
	policy_string_t table = text("location");
	policy_string_t flags = text("path-lazy, path-received");
	viaduct_policy_usrloc_save_code_t code;
	viaduct_policy_usrloc_save_error_t error;

	if (!(request->traits & VIADUCT_POLICY_TYPES_TRAITS_URI_IS_OURS))
		return reply(403, "Not Our Domain");
	if (!viaduct_policy_usrloc_save(&table, &flags, NULL, &code, &error)) {
		log_refusal(&error);
		viaduct_policy_usrloc_save_error_free(&error);
	}
	return answered();
}

/* RFC 3261 16.5: to whoever is registered. */
static verdict to_user(const request *request)
{
	policy_string_t table = text("location");
	policy_string_t flags = text("method-filtering");
	viaduct_policy_usrloc_lookup_error_t error;
	uint32_t count;

	if (!viaduct_policy_usrloc_lookup(&table, &flags, NULL, &count, &error)) {
		bool not_allowed = error.tag == VIADUCT_POLICY_USRLOC_LOOKUP_ERROR_METHOD_NOT_ALLOWED;

		viaduct_policy_usrloc_lookup_error_free(&error);
		return reply(not_allowed ? 405 : 480, "");
	}
	if (forms_dialog(request->method))
		viaduct_policy_routing_record_route();
	return relay();
}

static verdict decide(const request *request)
{
	viaduct_policy_types_traits_t traits = request->traits;

	if (traits & VIADUCT_POLICY_TYPES_TRAITS_IN_DIALOG) {
		if (traits & VIADUCT_POLICY_TYPES_TRAITS_LOOSE_ROUTED)
			return relay();
		return reply(404, "Not Here");
	}
	if ((traits & VIADUCT_POLICY_TYPES_TRAITS_PRELOADED_ROUTE) &&
	    !(traits & VIADUCT_POLICY_TYPES_TRAITS_TRUSTED))
		return reply(403, "Route Not Allowed");
	if (request->method == VIADUCT_POLICY_TYPES_METHOD_REGISTER)
		return register_phone(request);
	if (traits & VIADUCT_POLICY_TYPES_TRAITS_URI_IS_ROUTER)
		return reply(request->method == VIADUCT_POLICY_TYPES_METHOD_OPTIONS ? 200 : 404, "");
	if (traits & VIADUCT_POLICY_TYPES_TRAITS_URI_IS_OURS)
		return to_user(request);
	if (traits & VIADUCT_POLICY_TYPES_TRAITS_FROM_IS_OURS)
		return relay();

	policy_string_t counter = text("relaying_refused");

	viaduct_policy_metrics_add(&counter, 1);
	return reply(403, "Relaying Denied");
}

/* One function a phase; the manifest lists those that are asked. */

void exports_viaduct_policy_handler_on_request(request *request, verdict *out)
{
	*out = decide(request);
}

exports_viaduct_policy_handler_branch_verdict_t
exports_viaduct_policy_handler_on_branch(request *request)
{
	(void)request;
	return VIADUCT_POLICY_TYPES_BRANCH_VERDICT_SEND;
}

exports_viaduct_policy_handler_reply_verdict_t
exports_viaduct_policy_handler_on_reply(request *request, uint16_t status)
{
	(void)request;
	(void)status;
	return VIADUCT_POLICY_TYPES_REPLY_VERDICT_FORWARD;
}

void exports_viaduct_policy_handler_on_failure(request *request, uint16_t status,
					       exports_viaduct_policy_handler_failure_verdict_t *out)
{
	(void)request;
	(void)status;
	out->tag = VIADUCT_POLICY_TYPES_FAILURE_VERDICT_FORWARD;
}
