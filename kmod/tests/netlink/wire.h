/* SPDX-License-Identifier: GPL-2.0 */
/* Netlink messages, made and read by hand: a library would refuse to send what is wrong. */
#ifndef VIADUCT_TESTS_WIRE_H
#define VIADUCT_TESTS_WIRE_H

#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define DIE(...)                                                    \
	do {                                                        \
		fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);     \
		fprintf(stderr, __VA_ARGS__);                       \
		fputc('\n', stderr);                                \
		exit(1);                                            \
	} while (0)

#define MESSAGE_MAX 65536
#define MARKS_MAX 4096
#define HEADERS (NLMSG_HDRLEN + GENL_HDRLEN)

struct message {
	uint32_t len;			/* what is sent, whatever the header says */
	uint32_t marks;			/* attribute headers, for those who spoil them */
	uint32_t mark[MARKS_MAX];
	_Alignas(8) uint8_t data[MESSAGE_MAX];
};

void message_begin(struct message *m, uint16_t family, uint8_t cmd, uint16_t flags);
/* Both leave the message as it is where there is no room. */
void put(struct message *m, uint16_t type, const void *data, uint16_t len);
uint32_t nest_begin(struct message *m, uint16_t type);
void nest_end(struct message *m, uint32_t at);
/* Writes the length into the header. */
void message_end(struct message *m);

int netlink_open(void);
uint16_t family_id(int socket, const char *name);

/* What came back for a message. */
struct outcome {
	bool acknowledged;		/* an NLMSG_ERROR came, `error` is its value */
	int error;			/* 0 or an errno, positive */
	bool done;			/* a dump came to its end */
	uint32_t answers;		/* messages that were neither */
};

/* Called for each answer. */
typedef void (*answer_fn)(const struct nlmsghdr *header, void *context);

/* Sends and reads all that is there already; a dump to its end. */
struct outcome exchange(int socket, struct message *m, answer_fn answer, void *context);

/* The attributes of an answer; one that does not fit its place ends the program. */
const struct nlattr *attr_first(const void *from, uint32_t len);
const struct nlattr *attr_next(const struct nlattr *attr, const void *end);
const struct nlattr *attr_find(const void *from, uint32_t len, uint16_t type);

#endif
