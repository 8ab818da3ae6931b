/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_FORWARD_H
#define VIADUCT_FORWARD_H

#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>

#include "session.h"

/* Attaches to the packets of a namespace; the namespace's mutex held. */
int viaduct_hook(struct viaduct_net *vn);
/* After this and an RCU grace period no packet is in this module. */
void viaduct_unhook(struct viaduct_net *vn);

/* Before connection tracking, which would only have to forget it again. */
#define VIADUCT_HOOK_PRIORITY (NF_IP_PRI_RAW - 10)

/* Whether it is the function of one of the hooks at PRE_ROUTING. */
bool viaduct_is_our_hook(nf_hookfn *hook);

/* A packet that was steered from another CPU, at PRE_ROUTING as it was there. */
unsigned int viaduct_take_moved(struct viaduct_net *vn, struct sk_buff *skb,
				const struct nf_hook_state *state);

/*
 * The routing that follows would refuse sources no packet from a wire may have;
 * what is relayed never gets there. @dev: where it came in, or NULL.
 */
bool viaduct_is_martian(const struct net_device *dev, const struct viaduct_addr *src);

/*
 * Hooks, for packets whose IP header is sound and at skb->data. @priv: the namespace, where it is known
 * without a search, or NULL.
 */
unsigned int viaduct_take_v4(void *priv, struct sk_buff *skb,
			     const struct nf_hook_state *state);
unsigned int viaduct_take_v6(void *priv, struct sk_buff *skb,
			     const struct nf_hook_state *state);

#endif
