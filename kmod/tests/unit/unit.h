/* SPDX-License-Identifier: GPL-2.0 */
/* What the unit tests share: checks that say where and what. */
#ifndef VIADUCT_TESTS_UNIT_H
#define VIADUCT_TESTS_UNIT_H

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/addr.h"

#define CHECK(condition)                                                     \
	do {                                                                 \
		if (!(condition)) {                                          \
			fprintf(stderr, "%s:%d: %s: not so: %s\n", __FILE__, \
				__LINE__, __func__, #condition);             \
			exit(1);                                             \
		}                                                            \
	} while (0)

#define RUN(test)                              \
	do {                                   \
		test();                        \
		printf("ok   %s\n", #test);    \
	} while (0)

/* Of a literal such as "192.0.2.1" or "2001:db8::1". */
static inline struct viaduct_addr addr(const char *ip, unsigned int port)
{
	struct viaduct_addr a;

	memset(&a, 0, sizeof(a));
	a.family = strchr(ip, ':') ? VIADUCT_V6 : VIADUCT_V4;
	if (inet_pton(a.family, ip, a.ip) != 1) {
		fprintf(stderr, "not an address: %s\n", ip);
		exit(1);
	}
	a.port = htons((u16)port);
	return a;
}

#endif
