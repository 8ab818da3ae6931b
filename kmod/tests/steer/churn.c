// SPDX-License-Identifier: GPL-2.0
/* What goes away under traffic. */
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "checks.h"
#include "churn.h"
#include "control.h"
#include "place.h"

#define FLOWS 16
#define LEG_A 20000
#define LEG_B 20002
#define FIRST_PEER 42000
/* Rounds between two times that CPU 1 goes or comes. */
#define HOTPLUG 30
#define FULL_TRIES 60000

static const struct rule rules[] = {
	{ .id = 1, .class = VIADUCT_STEER_SIP, .port_first = 5060, .cpus = 3, .mark = 1 },
	{ .id = 2, .class = VIADUCT_STEER_RTP, .cpus = 2, .priority = 6, .queue = 1 },
	{ .id = 3, .class = VIADUCT_STEER_SIP, .port_first = 5061, .port_last = 5070, .cpus = 2 },
};
#define RULES (sizeof(rules) / sizeof(rules[0]))

static void add_rules(struct control *control)
{
	size_t i;
	int error;

	for (i = 0; i < RULES; i++) {
		error = rule_add(control, &rules[i]);
		if (error)
			DIE("rule %zu: %s", i, strerror(error));
	}
}

void hold(void)
{
	struct control control;
	uint64_t full = 0;
	int tries;
	size_t i;

	control_open(&control, OWNER);
	add_rules(&control);
	session_add(&control, LEG_A, FIRST_PEER, LEG_B, 30002);
	/* So that what is done next meets full queues. */
	for (tries = 0; !full; tries++) {
		if (tries == FULL_TRIES)
			DIE("no queue was full in %d ms", FULL_TRIES);
		usleep(1000);
		for (i = 0; i < RULES; i++)
			full += rule_counters(&control, rules[i].id).full;
	}
	control_close(&control);
}

/* Nobody there, no route, no device: all of that is to be expected. */
static void *send_on(void *cpu)
{
	static const uint16_t ports[] = { 5060, LEG_A, 5061, 5062 };
	unsigned int on = (unsigned int)(uintptr_t)cpu;
	struct sockaddr_storage to[4];
	uint8_t rtp[172] = { 0x80 };
	int from[FLOWS];
	uint32_t i;

	for (i = 0; i < FLOWS; i++)
		from[i] = socket_in("a", SOCK_DGRAM, "0.0.0.0",
				    (uint16_t)(FIRST_PEER + 100 * on + i));
	for (i = 0; i < 4; i++)
		address(R_TO_A, ports[i], &to[i]);
	for (i = 0;; i++) {
		/* A CPU that went offline is forgotten. */
		if (i % 1024 == 0)
			try_to_stay_on(on);
		sendto(from[i % FLOWS], rtp, sizeof(rtp), 0, (struct sockaddr *)&to[i / 7 % 4],
		       sizeof(struct sockaddr_in));
	}
	return NULL;
}

void flood(void)
{
	pthread_t other;
	int error = pthread_create(&other, NULL, send_on, (void *)(uintptr_t)1);

	if (error)
		DIE("a thread: %s", strerror(error));
	send_on(NULL);
}

void churn(uint32_t rounds)
{
	uint64_t matched = 0, moved = 0;
	struct control control;
	bool online = true;
	uint32_t round;
	size_t i;

	stay_on(0);
	control_open(&control, OWNER);
	session_add(&control, LEG_A, FIRST_PEER, LEG_B, 30002);
	for (round = 0; round < rounds; round++) {
		if (round % HOTPLUG == HOTPLUG - 1) {
			online = !online;
			cpu1_online(online);
		}
		add_rules(&control);
		usleep(2000);
		for (i = 0; i < RULES; i++) {
			struct rule_counters c = rule_remove(&control, rules[i].id);

			matched += c.matched;
			moved += c.moved;
			if (c.moved + c.full + c.offline > c.matched)
				DIE("more than all: %llu of %llu", (unsigned long long)c.moved,
				    (unsigned long long)c.matched);
		}
	}
	cpu1_online(true);
	control_detach(&control);
	if (!moved || rules_count(&control))
		DIE("%llu packets were fitted, none moved", (unsigned long long)matched);
	printf("steer: %u times, %llu packets fitted, %llu moved\n", rounds,
	       (unsigned long long)matched, (unsigned long long)moved);
}
