// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "canary.h"
#include "make.h"
#include "uapi/viaduct.h"

#define OWNER (OWNERS + 1)
/* Among the places the fuzzer names, so that it tries to change and remove these legs. */
#define LEG_PORT(side) (FIRST_PORT + (side))
#define PHONE_PORT(side) (30000 + (side))
#define RELAY_MS 5000
#define RELAY_TRIES 6

static struct message message;

static struct sockaddr_in loopback(uint16_t port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return at;
}

void attrs_check(const void *from, uint32_t len, uint32_t depth)
{
	const struct nlattr *attr = attr_first(from, len);

	if (depth > 8)
		DIE("an answer is nested too deeply");
	for (; attr; attr = attr_next(attr, (const uint8_t *)from + len))
		if (attr->nla_type & NLA_F_NESTED)
			attrs_check((const uint8_t *)attr + NLA_HDRLEN,
				    attr->nla_len - NLA_HDRLEN, depth + 1);
}

/* What traffic changes is left out, and padding, which depends on it. */
static void append(struct canary *canary, const void *from, uint32_t len, uint32_t depth)
{
	const struct nlattr *attr = attr_first(from, len);

	for (; attr; attr = attr_next(attr, (const uint8_t *)from + len)) {
		uint32_t inside = attr->nla_len - NLA_HDRLEN;
		uint16_t type = attr->nla_type & NLA_TYPE_MASK;

		if (type == VIADUCT_L_PAD || (depth == 2 && type >= VIADUCT_L_LEARNED_ADDR))
			continue;
		if (depth < 2 && attr->nla_type & NLA_F_NESTED) {
			append(canary, (const uint8_t *)attr + NLA_HDRLEN, inside, depth + 1);
			continue;
		}
		if (canary->said_len + attr->nla_len > SAID_MAX)
			DIE("the module says too much of a session");
		memcpy(canary->said + canary->said_len, attr, attr->nla_len);
		canary->said_len += attr->nla_len;
	}
}

static void hear(const struct nlmsghdr *header, void *context)
{
	append(context, (const uint8_t *)header + HEADERS, header->nlmsg_len - HEADERS, 0);
}

static void ask(struct canary *canary)
{
	struct place leg = { { 127, 0, 0, 1 }, 4, LEG_PORT(0) };
	uint32_t session, side;
	struct outcome outcome;

	canary->said_len = 0;
	message_begin(&message, canary->family, VIADUCT_CMD_GET, NLM_F_ACK);
	session = nest_begin(&message, VIADUCT_A_SESSION);
	side = nest_begin(&message, VIADUCT_S_LEG_A);
	put_place(&message, VIADUCT_L_LOCAL_ADDR, VIADUCT_L_LOCAL_PORT, &leg);
	nest_end(&message, side);
	nest_end(&message, session);
	message_end(&message);
	outcome = exchange(canary->netlink, &message, hear, canary);
	if (outcome.error || outcome.answers != 1)
		DIE("a session that nobody may remove is gone: %s", strerror(outcome.error));
}

static void must(struct canary *canary, const char *what)
{
	struct outcome outcome;

	message_end(&message);
	outcome = exchange(canary->netlink, &message, NULL, NULL);
	if (!outcome.acknowledged || outcome.error)
		DIE("%s: %s", what, strerror(outcome.error));
}

static void add(struct canary *canary)
{
	uint32_t list, session, leg, side, flags = VIADUCT_LEG_F_LOOPBACK;

	message_begin(&message, canary->family, VIADUCT_CMD_ADD, NLM_F_ACK);
	list = nest_begin(&message, VIADUCT_A_SESSION_LIST);
	session = nest_begin(&message, 0);
	for (side = 0; side < 2; side++) {
		struct place local = { { 127, 0, 0, 1 }, 4, (uint16_t)LEG_PORT(side) };
		struct place peer = { { 127, 0, 0, 1 }, 4, (uint16_t)PHONE_PORT(side) };

		leg = nest_begin(&message, (uint16_t)(VIADUCT_S_LEG_A + side));
		put_place(&message, VIADUCT_L_LOCAL_ADDR, VIADUCT_L_LOCAL_PORT, &local);
		put_place(&message, VIADUCT_L_PEER_ADDR, VIADUCT_L_PEER_PORT, &peer);
		put(&message, VIADUCT_L_FLAGS, &flags, sizeof(flags));
		nest_end(&message, leg);
	}
	nest_end(&message, session);
	nest_end(&message, list);
	must(canary, "ADD");
}

static int phone_open(uint16_t port)
{
	struct sockaddr_in at = loopback(port);
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (s < 0 || bind(s, (struct sockaddr *)&at, sizeof(at)))
		DIE("a phone: %s", strerror(errno));
	return s;
}

void canary_open(struct canary *canary, uint16_t family)
{
	uint64_t owner = OWNER;
	int side;

	canary->family = family;
	canary->netlink = netlink_open();
	for (side = 0; side < 2; side++)
		canary->phone[side] = phone_open((uint16_t)PHONE_PORT(side));
	message_begin(&message, family, VIADUCT_CMD_ATTACH, NLM_F_ACK);
	put(&message, VIADUCT_A_OWNER, &owner, sizeof(owner));
	must(canary, "ATTACH");
	add(canary);
	ask(canary);
}

/* Whether @rtp comes within a while, from the address of the leg. */
static bool comes(int phone, const uint8_t *rtp, size_t size, uint16_t leg)
{
	struct pollfd ready = { .fd = phone, .events = POLLIN };
	struct sockaddr_in source;
	socklen_t len = sizeof(source);
	uint8_t got[256];
	ssize_t n;

	do {
		if (poll(&ready, 1, RELAY_MS) != 1)
			return false;
		n = recvfrom(phone, got, sizeof(got), 0, (struct sockaddr *)&source, &len);
	} while (n != (ssize_t)size || memcmp(rtp, got, size));
	if (ntohs(source.sin_port) != leg)
		DIE("relayed from port %u", ntohs(source.sin_port));
	return true;
}

/* RTP from one phone comes to the other. A rule may send it by a queue that is full now and then. */
static void relay(struct canary *canary, int from)
{
	static uint16_t number;
	struct sockaddr_in leg = loopback((uint16_t)LEG_PORT(from));
	uint8_t rtp[172] = { 0x80, 0, (uint8_t)(++number >> 8), (uint8_t)number };
	int tries = RELAY_TRIES;

	do {
		if (!tries--)
			DIE("the session no longer relays");
		if (sendto(canary->phone[from], rtp, sizeof(rtp), 0, (struct sockaddr *)&leg,
			   sizeof(leg)) != sizeof(rtp))
			DIE("a phone sends: %s", strerror(errno));
	} while (!comes(canary->phone[!from], rtp, sizeof(rtp), (uint16_t)LEG_PORT(!from)));
}

struct tally {
	uint16_t attr;
	uint32_t count;
};

static void hear_count(const struct nlmsghdr *header, void *context)
{
	struct tally *tally = context;
	const struct nlattr *count = attr_find((const uint8_t *)header + HEADERS,
					       header->nlmsg_len - HEADERS, tally->attr);

	if (!count)
		DIE("INFO without attribute %u", tally->attr);
	memcpy(&tally->count, (const uint8_t *)count + NLA_HDRLEN, sizeof(tally->count));
}

static uint32_t counted(struct canary *canary, uint16_t attr)
{
	struct tally tally = { attr, UINT32_MAX };

	message_begin(&message, canary->family, VIADUCT_CMD_INFO, NLM_F_ACK);
	message_end(&message);
	exchange(canary->netlink, &message, hear_count, &tally);
	return tally.count;
}

/* INFO counts as many as a dump by @cmd shows. */
static void check_count(struct canary *canary, uint8_t cmd, uint16_t attr)
{
	struct outcome dump;
	uint32_t before, after;

	/* An owner whose grace is over may take some with it in between. */
	do {
		before = counted(canary, attr);
		message_begin(&message, canary->family, cmd, NLM_F_DUMP);
		message_end(&message);
		dump = exchange(canary->netlink, &message, NULL, NULL);
		after = counted(canary, attr);
	} while (before != after);
	if (dump.answers != after)
		DIE("INFO counts %u, a dump by command %u shows %u", after, cmd, dump.answers);
}

void canary_check(struct canary *canary)
{
	struct canary was = *canary;

	ask(canary);
	if (was.said_len != canary->said_len || memcmp(was.said, canary->said, was.said_len))
		DIE("a session that nobody may change has changed");
	check_count(canary, VIADUCT_CMD_GET, VIADUCT_A_SESSIONS);
	check_count(canary, VIADUCT_CMD_RULE_GET, VIADUCT_A_RULES);
	relay(canary, 0);
	relay(canary, 1);
}

void canary_close(struct canary *canary)
{
	close(canary->netlink);
	close(canary->phone[0]);
	close(canary->phone[1]);
}
