/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A session of an owner that takes no part in what others send. It must stay as it was, and relay
 * between two sockets.
 */
#ifndef VIADUCT_TESTS_CANARY_H
#define VIADUCT_TESTS_CANARY_H

#include <stdint.h>

#include "wire.h"

#define SAID_MAX 2048

struct canary {
	uint16_t family;
	int netlink;
	int phone[2];
	uint32_t said_len;		/* what the module says of the session */
	uint8_t said[SAID_MAX];
};

void canary_open(struct canary *canary, uint16_t family);
/* Also: INFO counts as many sessions, and rules, as a dump shows. */
void canary_check(struct canary *canary);
void canary_close(struct canary *canary);

/* Every attribute fits its place, and those in it. */
void attrs_check(const void *from, uint32_t len, uint32_t depth);

#endif
