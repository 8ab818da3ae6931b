/* SPDX-License-Identifier: GPL-2.0 */
/* Rules and a session in the network namespace "r", as their owner. */
#ifndef VIADUCT_TESTS_CONTROL_H
#define VIADUCT_TESTS_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/netlink/wire.h"
#include "uapi/viaduct.h"

#define OWNER 4711

struct control {
	int netlink;
	uint16_t family;
};

/* What is 0 is not said, but for `id`. */
struct rule {
	uint32_t id;
	uint8_t class;
	uint32_t protocols;
	const char *addr;
	uint16_t port_first, port_last;
	uint8_t cpus;		/* bit n: CPU n */
	uint32_t priority, mark;
	uint16_t queue;
};

struct rule_counters {
	uint64_t matched, moved, full, offline, before_stack;
};

void control_open(struct control *control, uint64_t owner);
/* With all that is the owner's. */
void control_detach(struct control *control);
/* Sessions and rules go on for a minute. */
void control_close(struct control *control);

/* 0 or an errno. */
int rule_add(struct control *control, const struct rule *rule);
/* Its final counters; there must be such a rule. */
struct rule_counters rule_remove(struct control *control, uint32_t id);
struct rule_counters rule_counters(struct control *control, uint32_t id);
/* 0 or an errno. */
int rule_try_remove(struct control *control, uint32_t id);
/* As INFO and as a dump say, which must be the same. */
uint32_t rules_count(struct control *control);

/* Between two legs in "r" and their peers in "a" and "b". */
void session_add(struct control *control, uint16_t leg_a, uint16_t peer_a, uint16_t leg_b,
		 uint16_t peer_b);
/* A device of "r" whose packets are taken at its ingress. */
void device_add(struct control *control, const char *device);
/* What the module says of a rule what was asked for. */
void rule_check(struct control *control, const struct rule *rule);

#endif
