/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_CORE_REWRITE_H
#define VIADUCT_CORE_REWRITE_H

#include "addr.h"

#define VIADUCT_IPV4_SIZE 20
#define VIADUCT_IPV6_SIZE 40
#define VIADUCT_UDP_SIZE 8
#define VIADUCT_DSCP_COPY 255

/* What the header of the received packet leaves for the one that is sent. */
struct viaduct_hop {
	u8 tclass;		/* DSCP and ECN */
	u8 ttl;			/* or hop limit */
	bool dont_fragment;
};

/* DSCP by the leg's wish, ECN as it came (RFC 3168: both ends must see it). */
static inline u8 viaduct_tclass(u8 received, u8 dscp)
{
	if (dscp == VIADUCT_DSCP_COPY)
		return received;
	return (u8)((dscp << 2) | (received & 3));
}

/*
 * Writes a whole new header into @to, so that nothing of the received one gets
 * through unintended: no options, no flow label, no identification (R-M1).
 * @udp_len: octets of UDP header and payload. @id: of IPv4, in host order.
 */
void viaduct_write_ipv4(u8 *to, const struct viaduct_addr *src,
			const struct viaduct_addr *dst,
			const struct viaduct_hop *hop, u16 udp_len, u16 id);
void viaduct_write_ipv6(u8 *to, const struct viaduct_addr *src,
			const struct viaduct_addr *dst,
			const struct viaduct_hop *hop, u16 udp_len);

/*
 * The UDP checksum of the packet with other addresses and ports, computed from
 * the old one. A packet that was damaged on its way stays damaged: a relay that
 * summed anew would hide it. @check: in network order, not 0.
 */
__be16 viaduct_udp_check(__be16 check, const struct viaduct_addr *old_src,
			 const struct viaduct_addr *old_dst,
			 const struct viaduct_addr *src,
			 const struct viaduct_addr *dst);

#endif
