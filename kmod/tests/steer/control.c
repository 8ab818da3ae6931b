// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <unistd.h>

#include "control.h"
#include "place.h"

static struct message message;

static int order(struct control *control, answer_fn answer, void *context)
{
	struct outcome outcome;

	message_end(&message);
	outcome = exchange(control->netlink, &message, answer, context);
	if (!outcome.acknowledged)
		DIE("the module does not answer");
	return outcome.error;
}

static void must(struct control *control, const char *what)
{
	int error = order(control, NULL, NULL);

	if (error)
		DIE("%s: %s", what, strerror(error));
}

void control_open(struct control *control, uint64_t owner)
{
	int before = enter("r");

	control->netlink = netlink_open();
	leave(before);
	control->family = family_id(control->netlink, VIADUCT_FAMILY_NAME);
	message_begin(&message, control->family, VIADUCT_CMD_ATTACH, NLM_F_ACK);
	put(&message, VIADUCT_A_OWNER, &owner, sizeof(owner));
	must(control, "ATTACH");
}

void control_detach(struct control *control)
{
	message_begin(&message, control->family, VIADUCT_CMD_DETACH, NLM_F_ACK);
	must(control, "DETACH");
}

void control_close(struct control *control)
{
	close(control->netlink);
}

static void put_addr(uint16_t type, const char *text)
{
	uint8_t ip[16];
	bool v6 = strchr(text, ':');

	if (inet_pton(v6 ? AF_INET6 : AF_INET, text, ip) != 1)
		DIE("not an address: %s", text);
	put(&message, type, ip, v6 ? 16 : 4);
}

#define PUT(type, value)                                          \
	do {                                                      \
		if (value)                                        \
			put(&message, type, &(value), sizeof(value)); \
	} while (0)

int rule_add(struct control *control, const struct rule *rule)
{
	uint32_t nest;

	message_begin(&message, control->family, VIADUCT_CMD_RULE_ADD, NLM_F_ACK);
	nest = nest_begin(&message, VIADUCT_A_RULE);
	put(&message, VIADUCT_R_ID, &rule->id, sizeof(rule->id));
	PUT(VIADUCT_R_CLASS, rule->class);
	PUT(VIADUCT_R_PROTOCOLS, rule->protocols);
	if (rule->addr)
		put_addr(VIADUCT_R_ADDR, rule->addr);
	PUT(VIADUCT_R_PORT_FIRST, rule->port_first);
	PUT(VIADUCT_R_PORT_LAST, rule->port_last);
	PUT(VIADUCT_R_CPUS, rule->cpus);
	PUT(VIADUCT_R_PRIORITY, rule->priority);
	PUT(VIADUCT_R_MARK, rule->mark);
	PUT(VIADUCT_R_QUEUE, rule->queue);
	nest_end(&message, nest);
	return order(control, NULL, NULL);
}

struct said {
	struct rule_counters counters;
	uint64_t value[VIADUCT_R_MAX + 1];	/* as a number of so many octets */
	uint32_t rules;
};

static uint64_t number(const struct nlattr *attr)
{
	uint64_t value = 0;
	size_t len = attr->nla_len - NLA_HDRLEN;

	memcpy(&value, (const uint8_t *)attr + NLA_HDRLEN,
	       len < sizeof(value) ? len : sizeof(value));
	return value;
}

static void hear_counters(const struct nlattr *nest, struct rule_counters *counters)
{
	uint64_t *const to[VIADUCT_RC_MAX + 1] = {
		[VIADUCT_RC_MATCHED] = &counters->matched,
		[VIADUCT_RC_MOVED] = &counters->moved,
		[VIADUCT_RC_FULL] = &counters->full,
		[VIADUCT_RC_OFFLINE] = &counters->offline,
		[VIADUCT_RC_BEFORE_STACK] = &counters->before_stack,
	};
	uint32_t len = nest->nla_len - NLA_HDRLEN, i;

	for (i = VIADUCT_RC_MATCHED; i <= VIADUCT_RC_MAX; i++) {
		const struct nlattr *attr = attr_find(nest + 1, len, (uint16_t)i);

		if (!attr)
			DIE("a rule's counter %u is missing", i);
		*to[i] = number(attr);
	}
}

static void hear_rule(const struct nlmsghdr *header, void *context)
{
	struct said *said = context;
	const struct nlattr *rule = attr_find((const uint8_t *)header + HEADERS,
					      header->nlmsg_len - HEADERS, VIADUCT_A_RULE);
	const struct nlattr *attr, *end;

	if (!rule)
		DIE("an answer without RULE");
	said->rules++;
	end = (const struct nlattr *)((const uint8_t *)rule + rule->nla_len);
	for (attr = rule + 1; attr; attr = attr_next(attr, end)) {
		uint16_t type = attr->nla_type & NLA_TYPE_MASK;

		if (type == VIADUCT_R_COUNTERS)
			hear_counters(attr, &said->counters);
		else if (type <= VIADUCT_R_MAX)
			said->value[type] = number(attr);
	}
}

static int try(struct control *control, uint8_t cmd, uint32_t id, struct said *said)
{
	uint32_t nest;

	memset(said, 0, sizeof(*said));
	message_begin(&message, control->family, cmd, NLM_F_ACK);
	nest = nest_begin(&message, VIADUCT_A_RULE);
	put(&message, VIADUCT_R_ID, &id, sizeof(id));
	nest_end(&message, nest);
	return order(control, hear_rule, said);
}

static void ask(struct control *control, uint8_t cmd, uint32_t id, struct said *said)
{
	int error = try(control, cmd, id, said);

	if (error || said->rules != 1)
		DIE("rule %u: %s", id, strerror(error));
}

int rule_try_remove(struct control *control, uint32_t id)
{
	struct said said;

	return try(control, VIADUCT_CMD_RULE_DEL, id, &said);
}

struct rule_counters rule_remove(struct control *control, uint32_t id)
{
	struct said said;

	ask(control, VIADUCT_CMD_RULE_DEL, id, &said);
	return said.counters;
}

struct rule_counters rule_counters(struct control *control, uint32_t id)
{
	struct said said;

	ask(control, VIADUCT_CMD_RULE_GET, id, &said);
	return said.counters;
}

void rule_check(struct control *control, const struct rule *rule)
{
	struct said said;
	const struct {
		uint16_t type;
		uint64_t asked;
	} values[] = {
		{ VIADUCT_R_ID, rule->id },
		{ VIADUCT_R_OWNER, OWNER },
		{ VIADUCT_R_CLASS, rule->class },
		{ VIADUCT_R_PROTOCOLS, rule->protocols },
		{ VIADUCT_R_PORT_FIRST, rule->port_first },
		{ VIADUCT_R_PORT_LAST, rule->port_last },
		{ VIADUCT_R_CPUS, rule->cpus },
		{ VIADUCT_R_PRIORITY, rule->priority },
		{ VIADUCT_R_MARK, rule->mark },
		{ VIADUCT_R_QUEUE, rule->queue },
	};
	size_t i;

	ask(control, VIADUCT_CMD_RULE_GET, rule->id, &said);
	for (i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		if (said.value[values[i].type] != values[i].asked)
			DIE("attribute %u is %llu, not %llu", values[i].type,
			    (unsigned long long)said.value[values[i].type],
			    (unsigned long long)values[i].asked);
}

static void hear_info(const struct nlmsghdr *header, void *context)
{
	const struct nlattr *rules = attr_find((const uint8_t *)header + HEADERS,
					       header->nlmsg_len - HEADERS, VIADUCT_A_RULES);

	if (!rules)
		DIE("INFO without RULES");
	*(uint32_t *)context = (uint32_t)number(rules);
}

uint32_t rules_count(struct control *control)
{
	struct outcome dump;
	struct said said = { 0 };
	uint32_t info = 0;

	message_begin(&message, control->family, VIADUCT_CMD_RULE_GET, NLM_F_DUMP);
	message_end(&message);
	dump = exchange(control->netlink, &message, hear_rule, &said);
	if (!dump.done)
		DIE("a dump of the rules without an end");
	message_begin(&message, control->family, VIADUCT_CMD_INFO, NLM_F_ACK);
	if (order(control, hear_info, &info) || info != said.rules)
		DIE("INFO counts %u rules, a dump shows %u", info, said.rules);
	return info;
}

static void put_leg(uint16_t type, const char *local, uint16_t port, const char *peer,
		    uint16_t peer_port)
{
	uint32_t nest = nest_begin(&message, type);

	put_addr(VIADUCT_L_LOCAL_ADDR, local);
	put(&message, VIADUCT_L_LOCAL_PORT, &port, sizeof(port));
	put_addr(VIADUCT_L_PEER_ADDR, peer);
	put(&message, VIADUCT_L_PEER_PORT, &peer_port, sizeof(peer_port));
	nest_end(&message, nest);
}

void session_add(struct control *control, uint16_t leg_a, uint16_t peer_a, uint16_t leg_b,
		 uint16_t peer_b)
{
	uint32_t list, session;

	message_begin(&message, control->family, VIADUCT_CMD_ADD, NLM_F_ACK);
	list = nest_begin(&message, VIADUCT_A_SESSION_LIST);
	session = nest_begin(&message, 0);
	put_leg(VIADUCT_S_LEG_A, R_TO_A, leg_a, A, peer_a);
	put_leg(VIADUCT_S_LEG_B, R_TO_B, leg_b, B, peer_b);
	nest_end(&message, session);
	nest_end(&message, list);
	must(control, "ADD");
}

void device_add(struct control *control, const char *device)
{
	int before = enter("r");
	uint32_t index = if_nametoindex(device);

	leave(before);
	message_begin(&message, control->family, VIADUCT_CMD_DEVICE_ADD, NLM_F_ACK);
	put(&message, VIADUCT_A_DEVICE, &index, sizeof(index));
	must(control, "DEVICE_ADD");
}
