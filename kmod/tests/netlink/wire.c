// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire.h"

#define RECEIVE_OCTETS (1 << 20)

void message_begin(struct message *m, uint16_t family, uint8_t cmd, uint16_t flags)
{
	struct nlmsghdr header = { .nlmsg_type = family, .nlmsg_flags = NLM_F_REQUEST | flags };
	struct genlmsghdr generic = { .cmd = cmd, .version = 1 };

	m->marks = 0;
	m->len = HEADERS;
	memcpy(m->data, &header, sizeof(header));
	memcpy(m->data + NLMSG_HDRLEN, &generic, sizeof(generic));
}

static bool put_header(struct message *m, uint16_t type, uint16_t len)
{
	struct nlattr header = { .nla_len = NLA_HDRLEN + len, .nla_type = type };

	if (m->len + NLA_HDRLEN + NLA_ALIGN(len) > MESSAGE_MAX || m->marks == MARKS_MAX)
		return false;
	m->mark[m->marks++] = m->len;
	memcpy(m->data + m->len, &header, sizeof(header));
	m->len += NLA_HDRLEN;
	return true;
}

void put(struct message *m, uint16_t type, const void *data, uint16_t len)
{
	if (!put_header(m, type, len))
		return;
	memset(m->data + m->len, 0, NLA_ALIGN(len));
	memcpy(m->data + m->len, data, len);
	m->len += NLA_ALIGN(len);
}

uint32_t nest_begin(struct message *m, uint16_t type)
{
	uint32_t at = m->len;

	return put_header(m, type | NLA_F_NESTED, 0) ? at : UINT32_MAX;
}

void nest_end(struct message *m, uint32_t at)
{
	uint16_t len;

	if (at == UINT32_MAX)
		return;
	len = (uint16_t)(m->len - at);
	memcpy(m->data + at, &len, sizeof(len));
}

void message_end(struct message *m)
{
	memcpy(m->data, &m->len, sizeof(m->len));
}

int netlink_open(void)
{
	int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
	struct sockaddr_nl any = { .nl_family = AF_NETLINK };
	int size = 4 << 20;

	if (s < 0 || bind(s, (struct sockaddr *)&any, sizeof(any)))
		DIE("netlink: %s", strerror(errno));
	setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	return s;
}

const struct nlattr *attr_next(const struct nlattr *attr, const void *end)
{
	const uint8_t *at = (const uint8_t *)attr;

	if (attr->nla_len < NLA_HDRLEN || attr->nla_len > (const uint8_t *)end - at)
		DIE("an answer has an attribute %u of %u octets in %td", attr->nla_type,
		    attr->nla_len, (const uint8_t *)end - at);
	at += NLA_ALIGN(attr->nla_len);
	return at + NLA_HDRLEN <= (const uint8_t *)end ? (const struct nlattr *)at : NULL;
}

const struct nlattr *attr_first(const void *from, uint32_t len)
{
	return len >= NLA_HDRLEN ? from : NULL;
}

const struct nlattr *attr_find(const void *from, uint32_t len, uint16_t type)
{
	const uint8_t *end = (const uint8_t *)from + len;
	const struct nlattr *attr = attr_first(from, len), *found = NULL;

	for (; attr; attr = attr_next(attr, end))
		if ((attr->nla_type & NLA_TYPE_MASK) == type && !found)
			found = attr;
	return found;
}

/* Whether there is more to come; reads one datagram of answers. */
static bool read_answers(int socket, int flags, struct outcome *outcome, answer_fn answer,
			 void *context)
{
	static _Alignas(8) uint8_t buffer[RECEIVE_OCTETS];
	ssize_t got = recv(socket, buffer, sizeof(buffer), flags);
	const struct nlmsghdr *header = (const struct nlmsghdr *)buffer;

	if (got < 0) {
		if (errno != EAGAIN && errno != ENOBUFS && errno != ENOMEM)
			DIE("recv: %s", strerror(errno));
		return errno != EAGAIN;
	}
	for (; NLMSG_OK(header, (size_t)got); header = NLMSG_NEXT(header, got)) {
		if (header->nlmsg_type == NLMSG_ERROR) {
			outcome->acknowledged = true;
			outcome->error = -((const struct nlmsgerr *)NLMSG_DATA(header))->error;
		} else if (header->nlmsg_type == NLMSG_DONE) {
			outcome->done = true;
		} else {
			outcome->answers++;
			if (answer)
				answer(header, context);
		}
	}
	if (got)
		DIE("%zd octets of an answer are no message", got);
	return true;
}

struct outcome exchange(int socket, struct message *m, answer_fn answer, void *context)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct outcome outcome = { 0 };

	while (sendto(socket, m->data, m->len, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0) {
		if (errno == ENOBUFS || errno == ENOMEM) {	/* injected */
			outcome.acknowledged = true;
			outcome.error = errno;
			return outcome;
		}
		if (errno != EINTR)
			DIE("send: %s", strerror(errno));
	}
	while (read_answers(socket, MSG_DONTWAIT, &outcome, answer, context))
		;
	return outcome;
}

static void find_id(const struct nlmsghdr *header, void *context)
{
	const struct nlattr *id = attr_find((const uint8_t *)header + HEADERS,
					    header->nlmsg_len - HEADERS, CTRL_ATTR_FAMILY_ID);

	if (id)
		memcpy(context, (const uint8_t *)id + NLA_HDRLEN, sizeof(uint16_t));
}

uint16_t family_id(int socket, const char *name)
{
	static struct message m;
	uint16_t id = 0;

	message_begin(&m, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, NLM_F_ACK);
	put(&m, CTRL_ATTR_FAMILY_NAME, name, (uint16_t)(strlen(name) + 1));
	message_end(&m);
	exchange(socket, &m, find_id, &id);
	if (!id)
		DIE("the kernel has no netlink family called %s: is the module loaded?", name);
	return id;
}
