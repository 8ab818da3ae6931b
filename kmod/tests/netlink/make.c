// SPDX-License-Identifier: GPL-2.0
#include <string.h>

#include "make.h"
#include "uapi/viaduct.h"

/*
 * What user space may say of a leg besides addresses, flags and classes: width in octets, and its
 * range.
 */
static const struct leg_value {
	uint16_t type, len;
	uint32_t min, max;
} leg_values[] = {
	{ VIADUCT_L_WINDOW_MS, 4, 0, 60000 },
	{ VIADUCT_L_SETTLE_MS, 4, 0, 60000 },
	{ VIADUCT_L_MIN_RANK, 1, VIADUCT_RANK_ANY, VIADUCT_RANK_EXACT },
	{ VIADUCT_L_PAYLOAD_TYPES, 16, 0, UINT32_MAX },
	{ VIADUCT_L_MAX_SIZE, 2, 0, 65535 },
	{ VIADUCT_L_DSCP, 1, 0, 63 },
	{ VIADUCT_L_PRIORITY, 4, 0, UINT32_MAX },
	{ VIADUCT_L_PPS, 4, 0, UINT32_MAX },
	{ VIADUCT_L_PPS_BURST, 4, 1, 1 << 20 },
	{ VIADUCT_L_BPS, 4, 0, UINT32_MAX },
	{ VIADUCT_L_BPS_BURST, 4, 2048, 1 << 26 },
};

/* Mostly in the range, often at its ends, seldom just outside. */
static uint32_t value(struct random *r, uint32_t min, uint32_t max)
{
	switch (below(r, 40)) {
	case 0 ... 3:
		return min;
	case 4 ... 7:
		return max;
	case 8:
		return one_in(r, 2) ? max + 1 : min - 1;
	default:
		return min + (uint32_t)(next(r) % ((uint64_t)max - min + 1));
	}
}

static void put_u32(struct message *m, struct random *r, uint16_t type, uint32_t min, uint32_t max)
{
	uint32_t v = value(r, min, max);

	put(m, type, &v, sizeof(v));
}

struct place place_any(struct random *r)
{
	struct place place = { .len = 4, .port = (uint16_t)(FIRST_PORT + below(r, PORTS)) };

	if (one_in(r, 4)) {
		place.len = 16;
		place.ip[15] = 1;
	} else {
		memcpy(place.ip, (uint8_t[]){ 127, 0, 0, (uint8_t)(1 + below(r, HOSTS)) }, 4);
	}
	return place;
}

void put_place(struct message *m, uint16_t ip, uint16_t port, const struct place *place)
{
	put(m, ip, place->ip, place->len);
	put(m, port, &place->port, sizeof(place->port));
}

/* A class in both is refused. */
static void put_classes(struct message *m, struct random *r)
{
	uint32_t forward = below(r, VIADUCT_CLASS_ALL + 1), up = below(r, VIADUCT_CLASS_ALL + 1);

	if (!one_in(r, 20))
		up &= ~forward;
	put(m, VIADUCT_L_FORWARD, &forward, sizeof(forward));
	put(m, VIADUCT_L_UP, &up, sizeof(up));
}

static void put_leg(struct message *m, struct random *r, uint16_t type, const struct place *local)
{
	uint32_t nest = nest_begin(m, type);
	uint32_t flags = below(r, VIADUCT_LEG_F_ALL + 1);
	struct place peer = place_any(r);
	size_t i;

	if (!one_in(r, 50))
		put_place(m, VIADUCT_L_LOCAL_ADDR, VIADUCT_L_LOCAL_PORT, local);
	while (peer.len != local->len && !one_in(r, 50))
		peer = place_any(r);
	if (!one_in(r, 3))
		put_place(m, VIADUCT_L_PEER_ADDR, VIADUCT_L_PEER_PORT, &peer);
	/* Without it a leg here may have no peer. */
	if (!one_in(r, 20))
		flags |= VIADUCT_LEG_F_LOOPBACK;
	put(m, VIADUCT_L_FLAGS, &flags, sizeof(flags));
	if (one_in(r, 8))
		put_classes(m, r);
	for (i = 0; i < sizeof(leg_values) / sizeof(leg_values[0]); i++) {
		const struct leg_value *of = &leg_values[i];
		uint32_t octets[4];

		if (!one_in(r, 8))
			continue;
		octets[0] = value(r, of->min, of->max);
		octets[1] = octets[2] = octets[3] = (uint32_t)next(r);
		put(m, of->type, octets, of->len);
	}
	nest_end(m, nest);
}

/* Legs that were put into one session, to be named together again. */
static struct place pairs[32][2];

static void put_session(struct message *m, struct random *r, uint16_t type, bool whole)
{
	struct place *pair = pairs[below(r, sizeof(pairs) / sizeof(pairs[0]))];
	uint32_t nest = nest_begin(m, type), first = below(r, 2);
	uint64_t id = next(r);

	if (whole || !pair[0].port || one_in(r, 8)) {
		pair[0] = place_any(r);
		pair[1] = place_any(r);
	}
	if (one_in(r, 2))
		put(m, VIADUCT_S_ID, &id, sizeof(id));
	if (one_in(r, 2))
		put_u32(m, r, VIADUCT_S_IDLE_S, 0, one_in(r, 2) ? 2 : 86400);
	put_leg(m, r, VIADUCT_S_LEG_A, &pair[first]);
	if (whole || one_in(r, 2))
		put_leg(m, r, VIADUCT_S_LEG_B, &pair[!first]);
	nest_end(m, nest);
}

static void put_list(struct message *m, struct random *r)
{
	uint32_t nest = nest_begin(m, VIADUCT_A_SESSION_LIST);
	uint32_t i, n = one_in(r, 500) ? 250 + below(r, 12) : below(r, 4);

	for (i = 0; i <= n; i++)
		put_session(m, r, (uint16_t)i, !one_in(r, 30));
	nest_end(m, nest);
}

/* Few IDs, so that they meet; ports and addresses that packets come to. */
static void put_rule(struct message *m, struct random *r, bool whole)
{
	uint32_t nest = nest_begin(m, VIADUCT_A_RULE), id = below(r, 40);
	uint8_t class = (uint8_t)(1 + below(r, 2)), mask[8] = { 0 };
	uint32_t protocols = class == VIADUCT_STEER_RTP ? VIADUCT_PROTO_UDP : 1 + below(r, 3);
	uint16_t first = (uint16_t)(FIRST_PORT + below(r, PORTS));
	uint16_t last = (uint16_t)(first + below(r, PORTS)), queue = (uint16_t)below(r, 8);
	struct place place = place_any(r);

	if (!one_in(r, 50))
		put(m, VIADUCT_R_ID, &id, sizeof(id));
	if (!whole) {
		nest_end(m, nest);
		return;
	}
	put(m, VIADUCT_R_CLASS, &class, sizeof(class));
	if (one_in(r, 2))
		put(m, VIADUCT_R_PROTOCOLS, &protocols, sizeof(protocols));
	if (one_in(r, 4))
		put(m, VIADUCT_R_ADDR, place.ip, place.len);
	if (class == VIADUCT_STEER_SIP || one_in(r, 2))
		put(m, VIADUCT_R_PORT_FIRST, &first, sizeof(first));
	if (one_in(r, 2))
		put(m, VIADUCT_R_PORT_LAST, &last, sizeof(last));
	mask[0] = (uint8_t)(one_in(r, 10) ? next(r) : 1 + below(r, 3));
	if (!one_in(r, 4))
		put(m, VIADUCT_R_CPUS, mask, (uint16_t)(1 + below(r, sizeof(mask))));
	if (one_in(r, 2))
		put_u32(m, r, VIADUCT_R_PRIORITY, 0, UINT32_MAX);
	if (one_in(r, 2))
		put_u32(m, r, VIADUCT_R_MARK, 0, UINT32_MAX);
	if (class == VIADUCT_STEER_RTP && one_in(r, 2))
		put(m, VIADUCT_R_QUEUE, &queue, sizeof(queue));
	nest_end(m, nest);
}

static uint8_t command(struct random *r)
{
	static const uint8_t often[] = {
		VIADUCT_CMD_ADD, VIADUCT_CMD_ADD, VIADUCT_CMD_ADD, VIADUCT_CMD_ADD, VIADUCT_CMD_SET,
		VIADUCT_CMD_SET, VIADUCT_CMD_SET, VIADUCT_CMD_DEL, VIADUCT_CMD_DEL, VIADUCT_CMD_GET,
		VIADUCT_CMD_GET, VIADUCT_CMD_ATTACH, VIADUCT_CMD_ATTACH, VIADUCT_CMD_DEVICE_ADD,
		VIADUCT_CMD_DEVICE_DEL, VIADUCT_CMD_RULE_ADD, VIADUCT_CMD_RULE_ADD,
		VIADUCT_CMD_RULE_DEL, VIADUCT_CMD_RULE_GET,
	};

	if (one_in(r, 10))
		return (uint8_t)below(r, VIADUCT_CMD_MAX + 3);
	return often[below(r, sizeof(often))];
}

void make_right(struct message *m, struct random *r, uint16_t family)
{
	uint8_t cmd = command(r);
	uint64_t owner = below(r, OWNERS);
	/* The only interface there is, or none. */
	uint32_t device = one_in(r, 8) ? below(r, 4) : 1;
	bool dump = (cmd == VIADUCT_CMD_GET || cmd == VIADUCT_CMD_RULE_GET) && one_in(r, 8);

	message_begin(m, family, cmd, dump ? NLM_F_DUMP : NLM_F_ACK);
	switch (cmd) {
	case VIADUCT_CMD_ATTACH:
		put(m, VIADUCT_A_OWNER, &owner, sizeof(owner));
		if (one_in(r, 2))
			put_u32(m, r, VIADUCT_A_GRACE_S, 1, one_in(r, 2) ? 2 : 86400);
		break;
	case VIADUCT_CMD_ADD:
		put_list(m, r);
		break;
	case VIADUCT_CMD_DEVICE_ADD:
	case VIADUCT_CMD_DEVICE_DEL:
		put(m, VIADUCT_A_DEVICE, &device, sizeof(device));
		break;
	case VIADUCT_CMD_RULE_ADD:
	case VIADUCT_CMD_RULE_DEL:
	case VIADUCT_CMD_RULE_GET:
		if (!dump)
			put_rule(m, r, cmd == VIADUCT_CMD_RULE_ADD);
		break;
	case VIADUCT_CMD_SET:
	case VIADUCT_CMD_DEL:
	case VIADUCT_CMD_GET:
		if (!dump)
			put_session(m, r, VIADUCT_A_SESSION, false);
		break;
	}
	message_end(m);
}

static void put_random(struct message *m, struct random *r, uint32_t depth)
{
	static const uint16_t lengths[] = { 0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 64, 1000 };
	uint16_t type = (uint16_t)below(r, VIADUCT_L_MAX + 4);
	uint8_t octets[1000];
	uint16_t i, len;

	if (depth < 6 && one_in(r, 3)) {
		uint32_t nest = nest_begin(m, type);
		uint32_t n = below(r, 5);

		while (n--)
			put_random(m, r, depth + 1);
		nest_end(m, nest);
		return;
	}
	len = lengths[below(r, sizeof(lengths) / sizeof(lengths[0]))];
	for (i = 0; i < len; i++)
		octets[i] = (uint8_t)next(r);
	if (one_in(r, 8))
		type |= (uint16_t)(next(r) & ~NLA_TYPE_MASK);
	put(m, type, octets, len);
}

void make_random(struct message *m, struct random *r, uint16_t family)
{
	uint32_t n = below(r, 8);

	message_begin(m, family, command(r), NLM_F_ACK);
	while (n--)
		put_random(m, r, 0);
	message_end(m);
}

/* The place of an attribute's header; 0 without one. */
static uint32_t mark_any(const struct message *m, struct random *r)
{
	uint32_t mark = m->marks ? m->mark[below(r, m->marks)] : 0;

	return mark + NLA_HDRLEN <= m->len ? mark : 0;
}

static void spoil_attribute(struct message *m, struct random *r)
{
	static const uint16_t lengths[] = { 0, 3, 4, 5, 8, 12, 20, 0x7fff, 0xffff };
	uint32_t at = mark_any(m, r), other = mark_any(m, r);
	uint16_t word;

	if (!at)
		return;
	switch (below(r, 5)) {
	case 0:
		word = lengths[below(r, sizeof(lengths) / sizeof(lengths[0]))];
		memcpy(m->data + at, &word, sizeof(word));
		break;
	case 1:
		memcpy(&word, m->data + at, sizeof(word));
		word = (uint16_t)(word + below(r, 9) - 4);
		memcpy(m->data + at, &word, sizeof(word));
		break;
	case 2:
		word = (uint16_t)(below(r, VIADUCT_L_MAX + 4) | (next(r) & ~NLA_TYPE_MASK));
		memcpy(m->data + at + sizeof(word), &word, sizeof(word));
		break;
	case 3:	/* another attribute in its place */
		memmove(m->data + at, m->data + other, NLA_HDRLEN);
		break;
	default:	/* its value, and perhaps the next header */
		memset(m->data + at + NLA_HDRLEN, one_in(r, 2) ? 0xff : 0,
		       m->len - at - NLA_HDRLEN < 8 ? m->len - at - NLA_HDRLEN : 8);
	}
}

void spoil(struct message *m, struct random *r)
{
	uint32_t n = 1 + below(r, 4);

	while (n--) {
		switch (below(r, 8)) {
		case 0:
			m->data[NLMSG_HDRLEN + below(r, m->len - NLMSG_HDRLEN)] ^=
				(uint8_t)(1 << below(r, 8));
			break;
		case 1:	/* cut off, and the header knows or does not */
			m->len = HEADERS + below(r, m->len - HEADERS + 1);
			if (!one_in(r, 4))
				message_end(m);
			break;
		case 2:	/* flags: of dumps, of replacing, unknown ones */
			m->data[6] = (uint8_t)(next(r) | NLM_F_REQUEST);
			m->data[7] = (uint8_t)next(r);
			break;
		case 3:
			m->data[NLMSG_HDRLEN + below(r, GENL_HDRLEN)] = (uint8_t)next(r);
			break;
		default:
			spoil_attribute(m, r);
		}
	}
}
