/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where packets come from and go to: sockets in the namespaces "a", "r" and "b" that steer.sh makes,
 * and what the kernel knew of a packet when it handled it.
 */
#ifndef VIADUCT_TESTS_PLACE_H
#define VIADUCT_TESTS_PLACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define A "10.0.1.1"
#define R_TO_A "10.0.1.254"
#define R_TO_B "10.0.2.254"
#define B "10.0.2.1"
#define A_V6 "fd00:1::1"
#define R_V6 "fd00:1::254"

/* The namespace before; to be given back. */
int enter(const char *namespace);
void leave(int before);

/* Of what this thread does, so of what it sends: veth hands it over on the same CPU. */
void stay_on(unsigned int cpu);
/* False: it is not online. */
bool try_to_stay_on(unsigned int cpu);

socklen_t address(const char *ip, uint16_t port, struct sockaddr_storage *to);
/* UDP unless @type is SOCK_STREAM. */
int socket_in(const char *namespace, int type, const char *ip, uint16_t port);
/* What leaves a device of a namespace. */
int tap_in(const char *namespace, const char *device);

/* One of SKF_AD_*, and the value it must have, for the packet to be received. */
struct known {
	int what;
	uint32_t value;
};
void receive_only(int socket, const struct known *known, uint32_t count);

/* Sends @count packets numbered from @first. */
void send_numbered(int socket, const char *ip, uint16_t port, uint32_t first, uint32_t count);
/* Receives them all, in their order; then nothing else is there. */
void receive_numbered(int socket, uint32_t first, uint32_t count, const char *what);
/* Receives so many, some numbers left out, in their order; then nothing else is there. */
void receive_ascending(int socket, uint32_t count);
bool is_empty(int socket);

#endif
