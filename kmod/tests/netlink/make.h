/* SPDX-License-Identifier: GPL-2.0 */
/* Messages for the fuzzer: right ones, and ways to spoil them. */
#ifndef VIADUCT_TESTS_MAKE_H
#define VIADUCT_TESTS_MAKE_H

#include "random.h"
#include "wire.h"

/* Few enough that messages meet each other's sessions. */
#define HOSTS 4
#define PORTS 16
#define FIRST_PORT 20000
#define OWNERS 80

/* 127.0.0.1.. and ::1, where every packet goes to this host. */
struct place {
	uint8_t ip[16];
	uint16_t len, port;
};
struct place place_any(struct random *r);
void put_place(struct message *m, uint16_t ip, uint16_t port, const struct place *place);

/* A message that is right in form; its values may still be refused. */
void make_right(struct message *m, struct random *r, uint16_t family);
/* Attributes of all types, lengths and depths. */
void make_random(struct message *m, struct random *r, uint16_t family);
/* Damages a message in one to four places. */
void spoil(struct message *m, struct random *r);

#endif
