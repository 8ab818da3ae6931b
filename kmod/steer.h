/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_STEER_H
#define VIADUCT_STEER_H

#include <linux/netfilter.h>
#include <linux/rculist.h>
#include <linux/u64_stats_sync.h>

#include "core/steer.h"
#include "session.h"
#include "transmit.h"

struct viaduct_rule_counters {
	u64_stats_t value[VIADUCT_RC_MAX + 1];
	struct u64_stats_sync sync;
};

struct viaduct_rule {
	struct list_head list;		/* of the namespace, by IDs; RCU */
	struct viaduct_steer steer;	/* does not change */
	struct viaduct_rule_counters __percpu *counters;
	struct viaduct_owner *owner;	/* under the namespace's mutex */
	struct rcu_head rcu;
};

/* What becomes of a received packet. */
enum viaduct_place {
	VIADUCT_PLACE_HERE,	/* goes on where it is */
	VIADUCT_PLACE_LATER,	/* at ingress: to be moved when PRE_ROUTING comes */
	VIADUCT_PLACE_MOVED,	/* it is gone */
	VIADUCT_PLACE_FULL,	/* to be dropped */
};

/*
 * Finds the rule of a packet, which is left in @rx, and does what it says, but
 * for what is to be done when it leaves. @leg: the one it is sent to, or NULL.
 */
enum viaduct_place viaduct_steer(struct viaduct_net *vn, struct sk_buff *skb,
				 const struct nf_hook_state *state,
				 const struct viaduct_leg *leg,
				 struct viaduct_received *rx);

/*
 * For a packet from @src that is before the stack yet, and not an skb. True: @cpu is the one its rule
 * has it moved to from PRE_ROUTING, and counted if that is another than this. Under RCU.
 */
bool viaduct_steer_consult(struct viaduct_net *vn, const struct viaduct_addr *src,
			   const struct viaduct_steer_packet *packet, unsigned int *cpu);

/* That @rx has a rule; once for a packet, which may come to two hooks. */
void viaduct_steer_count(const struct viaduct_received *rx);

struct viaduct_rule *viaduct_rule_alloc(void);
/* Of one that was never inserted. */
void viaduct_rule_free(struct viaduct_rule *rule);
/* Sums over the CPUs; @to has VIADUCT_RC_MAX + 1 places. */
void viaduct_rule_sum(const struct viaduct_rule *rule, u64 *to);

/* All below with the namespace's mutex held. */
struct viaduct_rule *viaduct_rule_find(struct viaduct_net *vn, u32 id);
/* Takes @rule over, unless there is an error. */
int viaduct_rule_insert(struct viaduct_net *vn, struct viaduct_rule *rule,
			struct viaduct_owner *owner);
void viaduct_rule_remove(struct viaduct_net *vn, struct viaduct_rule *rule);
/* All of an owner. */
void viaduct_rules_remove(struct viaduct_net *vn, struct viaduct_owner *owner);

#endif
