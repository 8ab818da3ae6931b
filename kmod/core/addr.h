/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_CORE_ADDR_H
#define VIADUCT_CORE_ADDR_H

#include "types.h"

/* The values of AF_INET and AF_INET6 on Linux; 0 is "no address". */
#define VIADUCT_V4 2
#define VIADUCT_V6 10

/*
 * An address with its port, both in network byte order. For IPv4 only ip[0] is
 * used and the rest is zero, so that two of them can be compared as memory.
 */
struct viaduct_addr {
	__be32 ip[4];
	__be16 port;
	u16 family;
};

static inline bool viaduct_addr_is_set(const struct viaduct_addr *a)
{
	return a->family != 0;
}

static inline bool viaduct_addr_same_ip(const struct viaduct_addr *a,
					const struct viaduct_addr *b)
{
	return a->family == b->family && a->ip[0] == b->ip[0] &&
	       a->ip[1] == b->ip[1] && a->ip[2] == b->ip[2] &&
	       a->ip[3] == b->ip[3];
}

static inline bool viaduct_addr_equal(const struct viaduct_addr *a,
				      const struct viaduct_addr *b)
{
	return a->port == b->port && viaduct_addr_same_ip(a, b);
}

/* What kind of address it is, as far as a relay has to care. */
enum viaduct_scope {
	VIADUCT_SCOPE_UNUSABLE,	/* unspecified, multicast, broadcast, port 0 */
	VIADUCT_SCOPE_LOOPBACK,
	VIADUCT_SCOPE_PRIVATE,	/* RFC 1918, RFC 6598, RFC 4193, link-local */
	VIADUCT_SCOPE_GLOBAL,
};

/* VIADUCT_SCOPE_UNUSABLE without a port, too. */
enum viaduct_scope viaduct_addr_scope(const struct viaduct_addr *a);
/* Whatever its port. */
enum viaduct_scope viaduct_ip_scope(const struct viaduct_addr *a);

/* The prefix that shares one budget: /24 of IPv4, /64 of IPv6. Fills @ip. */
void viaduct_addr_prefix(const struct viaduct_addr *a, u32 ip[2]);

#endif
