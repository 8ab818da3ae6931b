/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_TRANSMIT_H
#define VIADUCT_TRANSMIT_H

#include "core/rewrite.h"
#include "core/steer.h"
#include "session.h"

/* What was read from a received packet. */
struct viaduct_received {
	struct viaduct_addr src, dst;
	struct viaduct_hop hop;
	unsigned int udp_at;	/* from skb->data */
	u32 protocol;		/* one of VIADUCT_PROTO_* */
	bool at_ingress;	/* PRE_ROUTING has yet to come */
	bool moved;		/* it was steered to this CPU */
	bool offline;		/* the CPU its rule wants is */
	const struct viaduct_steer *rule;	/* or NULL; under RCU */
	unsigned int udp_len;	/* header and payload, in octets */
};

/*
 * Sends @skb, which is linear, from @from to the peer of @terms. 0: done, @skb
 * is gone. Otherwise why not, and @skb is still the caller's, to be dropped.
 */
enum viaduct_counter viaduct_transmit(struct net *net, struct sk_buff *skb,
				      const struct viaduct_received *rx,
				      const struct viaduct_addr *from,
				      struct viaduct_terms *terms);

#endif
