// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "make.h"
#include "traffic.h"

#define SENDERS 8

static struct sockaddr_storage address(const struct place *place)
{
	struct sockaddr_storage at = { 0 };
	struct sockaddr_in *v4 = (struct sockaddr_in *)&at;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&at;

	if (place->len == 4) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(place->port);
		memcpy(&v4->sin_addr, place->ip, 4);
	} else {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(place->port);
		memcpy(&v6->sin6_addr, place->ip, 16);
	}
	return at;
}

/* Bound to a place that a session may know as its peer. */
static int sender_open(struct random *r, uint16_t *len)
{
	struct place from = place_any(r);
	struct sockaddr_storage at = address(&from);
	int one = 1, s = socket(at.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (s < 0)
		DIE("a socket: %s", strerror(errno));
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* In use is no matter: the source is then any port. */
	if (bind(s, (struct sockaddr *)&at, sizeof(at)) && errno != EADDRINUSE)
		DIE("bind: %s", strerror(errno));
	*len = from.len;
	return s;
}

/* RTP, RTCP, STUN, and now and then what is none of them. */
static size_t packet(struct random *r, uint8_t *data, size_t room)
{
	static const uint8_t first[] = { 0x80, 0x80, 0x80, 0x81, 0x90, 0xa0, 0x00, 0x16, 0x40, 0xff };
	size_t len = one_in(r, 20) ? 1 + below(r, (uint32_t)room) : 12 + below(r, 160), i;

	for (i = 0; i < len; i++)
		data[i] = (uint8_t)next(r);
	data[0] = first[below(r, sizeof(first))];
	if (len > 1 && one_in(r, 4))
		data[1] = (uint8_t)(200 + below(r, 4));
	return len;
}

static void *run(void *argument)
{
	struct traffic *traffic = argument;
	struct random r = { traffic->seed };
	uint16_t len[SENDERS];
	int sender[SENDERS];
	uint8_t data[1400], waste[64];
	uint32_t i;

	for (i = 0; i < SENDERS; i++)
		sender[i] = sender_open(&r, &len[i]);
	while (!__atomic_load_n(&traffic->stop, __ATOMIC_RELAXED)) {
		uint32_t by = below(&r, SENDERS);
		struct place to = place_any(&r);
		struct sockaddr_storage at;
		size_t size = packet(&r, data, sizeof(data));

		while (to.len != len[by])
			to = place_any(&r);
		at = address(&to);
		/* Nobody on the port is no error here. */
		sendto(sender[by], data, size, 0, (struct sockaddr *)&at, sizeof(at));
		while (recv(sender[by], waste, sizeof(waste), 0) > 0)
			;
	}
	for (i = 0; i < SENDERS; i++)
		close(sender[i]);
	return NULL;
}

void traffic_start(struct traffic *traffic, uint64_t seed)
{
	int error;

	traffic->seed = seed;
	traffic->stop = false;
	error = pthread_create(&traffic->thread, NULL, run, traffic);
	if (error)
		DIE("a thread: %s", strerror(error));
}

void traffic_stop(struct traffic *traffic)
{
	__atomic_store_n(&traffic->stop, true, __ATOMIC_RELAXED);
	pthread_join(traffic->thread, NULL);
}
