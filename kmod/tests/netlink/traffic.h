/* SPDX-License-Identifier: GPL-2.0 */
/* Packets to the places the fuzzer uses, from a thread of its own, so that they meet its changes. */
#ifndef VIADUCT_TESTS_TRAFFIC_H
#define VIADUCT_TESTS_TRAFFIC_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct traffic {
	pthread_t thread;
	uint64_t seed;
	bool stop;
};

/* In the network namespace of the calling thread. */
void traffic_start(struct traffic *traffic, uint64_t seed);
void traffic_stop(struct traffic *traffic);

#endif
