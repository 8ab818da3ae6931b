// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "place.h"
#include "tests/netlink/wire.h"

#define WAIT_MS 20000
#define KNOWN_MAX 8
/* RTP of one source, with the number behind its header. */
#define RTP_HEADER 12

int enter(const char *namespace)
{
	int before = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	char path[64];
	int to;

	snprintf(path, sizeof(path), "/run/netns/%s", namespace);
	to = open(path, O_RDONLY | O_CLOEXEC);
	if (before < 0 || to < 0 || setns(to, CLONE_NEWNET))
		DIE("namespace %s: %s", namespace, strerror(errno));
	close(to);
	return before;
}

void leave(int before)
{
	if (setns(before, CLONE_NEWNET))
		DIE("back to a namespace: %s", strerror(errno));
	close(before);
}

bool try_to_stay_on(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return !sched_setaffinity(0, sizeof(set), &set);
}

void stay_on(unsigned int cpu)
{
	if (!try_to_stay_on(cpu))
		DIE("CPU %u: %s", cpu, strerror(errno));
}

socklen_t address(const char *ip, uint16_t port, struct sockaddr_storage *to)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)to;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)to;

	memset(to, 0, sizeof(*to));
	if (inet_pton(AF_INET, ip, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, ip, &v6->sin6_addr) != 1)
		DIE("not an address: %s", ip);
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	return sizeof(*v6);
}

static int opened(int s, const char *what)
{
	int size = 64 << 20;

	if (s < 0)
		DIE("%s: %s", what, strerror(errno));
	setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	return s;
}

int socket_in(const char *namespace, int type, const char *ip, uint16_t port)
{
	struct sockaddr_storage at;
	socklen_t len = address(ip, port, &at);
	int before = enter(namespace), one = 1, s;

	s = opened(socket(at.ss_family, type | SOCK_CLOEXEC, 0), namespace);
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(s, (struct sockaddr *)&at, len))
		DIE("%s port %u: %s", ip, port, strerror(errno));
	leave(before);
	return s;
}

int tap_in(const char *namespace, const char *device)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int before = enter(namespace), s;

	at.sll_ifindex = (int)if_nametoindex(device);
	s = opened(socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "a tap");
	if (bind(s, (struct sockaddr *)&at, sizeof(at)))
		DIE("a tap on %s: %s", device, strerror(errno));
	leave(before);
	return s;
}

void receive_only(int socket, const struct known *known, uint32_t count)
{
	struct sock_filter code[2 * KNOWN_MAX + 2];
	struct sock_fprog program = { .filter = code };
	uint32_t i;

	if (count > KNOWN_MAX)
		DIE("a filter of %u", count);
	for (i = 0; i < count; i++) {
		code[2 * i] = (struct sock_filter)BPF_STMT(
			BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + known[i].what));
		/* To the next one, else to the last statement. */
		code[2 * i + 1] = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JEQ | BPF_K, known[i].value, 0,
			(uint8_t)(2 * (count - i) - 1));
	}
	code[2 * count] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
	code[2 * count + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	program.len = (uint16_t)(2 * count + 2);
	if (setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)))
		DIE("a filter: %s", strerror(errno));
}

void send_numbered(int socket, const char *ip, uint16_t port, uint32_t first, uint32_t count)
{
	struct sockaddr_storage to;
	socklen_t len = address(ip, port, &to);
	uint8_t rtp[RTP_HEADER + 160] = { 0x80 };
	uint32_t i;

	for (i = first; i < first + count; i++) {
		uint16_t number = htons((uint16_t)i);

		memcpy(rtp + 2, &number, sizeof(number));
		memcpy(rtp + RTP_HEADER, &i, sizeof(i));
		if (sendto(socket, rtp, sizeof(rtp), 0, (struct sockaddr *)&to, len) < 0)
			DIE("send to %s port %u: %s", ip, port, strerror(errno));
	}
}

static bool ready(int socket, int ms)
{
	struct pollfd fd = { .fd = socket, .events = POLLIN };

	return poll(&fd, 1, ms) == 1;
}

bool is_empty(int socket)
{
	return !ready(socket, 0);
}

void receive_numbered(int socket, uint32_t first, uint32_t count, const char *what)
{
	uint8_t data[512];
	uint32_t i, got;
	ssize_t len;

	for (i = first; i < first + count; i++) {
		if (!ready(socket, WAIT_MS))
			DIE("%s: only %u of %u have come", what, i - first, count);
		len = recv(socket, data, sizeof(data), 0);
		/* A tap shows the headers too; the number is at a fixed place from the end. */
		if (len < RTP_HEADER + 160)
			DIE("%s: a packet of %zd octets", what, len);
		memcpy(&got, data + len - 160, sizeof(got));
		if (got != i)
			DIE("%s: packet %u instead of %u", what, got, i);
	}
	if (!is_empty(socket))
		DIE("%s: more than was sent", what);
}

void receive_ascending(int socket, uint32_t count)
{
	uint32_t i, number, last = 0;
	uint8_t data[512];

	for (i = 0; i < count; i++) {
		if (!ready(socket, WAIT_MS))
			DIE("only %u of %u have come", i, count);
		if (recv(socket, data, sizeof(data), 0) != RTP_HEADER + 160)
			DIE("a packet of another size");
		memcpy(&number, data + RTP_HEADER, sizeof(number));
		if (i && number <= last)
			DIE("packet %u after %u", number, last);
		last = number;
	}
	if (!is_empty(socket))
		DIE("more than were moved");
}
