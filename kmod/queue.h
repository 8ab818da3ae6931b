/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_QUEUE_H
#define VIADUCT_QUEUE_H

#include <linux/netfilter.h>

#include "session.h"

/* The queues of a namespace, one for each CPU; its mutex held. */
int viaduct_queues_init(struct viaduct_net *vn);
/*
 * Waits until all that is queued has gone on. Nothing may be put any more: the
 * hooks are off and a grace period has passed.
 */
void viaduct_queues_drain(struct viaduct_net *vn);
/* After draining. */
void viaduct_queues_exit(struct viaduct_net *vn);

/* Packets wait for @cpu, so one that is there already may not overtake them. */
bool viaduct_queue_busy(struct viaduct_net *vn, unsigned int cpu);
/*
 * Whether a packet at PRE_ROUTING can go on later and elsewhere. It is refused
 * where what it belongs to could be gone by then.
 */
bool viaduct_queue_takes(const struct sk_buff *skb,
			 const struct nf_hook_state *state);
/*
 * Puts a packet that viaduct_queue_takes() into @cpu's queue; it is gone then.
 * False: there is no room, and it is still the caller's.
 */
bool viaduct_queue_put(struct viaduct_net *vn, struct sk_buff *skb,
		       const struct nf_hook_state *state, unsigned int cpu);

#endif
