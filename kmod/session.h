/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_SESSION_H
#define VIADUCT_SESSION_H

#include <linux/llist.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/rhashtable.h>
#include <linux/spinlock.h>
#include <linux/u64_stats_sync.h>
#include <linux/workqueue.h>
#include <net/dst_cache.h>
#include <net/net_namespace.h>

#include "core/addr.h"
#include "core/bucket.h"
#include "core/latch.h"
#include "core/packet.h"

#define VIADUCT_PREFIX_BUCKETS 4096

struct viaduct_queue;

/* u64_stats_t where it tears, a plain word where it does not. */
struct viaduct_counters {
	u64_stats_t value[VIADUCT_C_MAX + 1];
	struct u64_stats_sync sync;
};

/*
 * All that signalling says of a leg, and what was learned since. Replaced as a
 * whole under RCU, so a packet sees one state or the other.
 */
struct viaduct_terms {
	struct viaduct_rules rules;
	struct viaduct_latch latch;
	struct viaduct_latch_terms peer;	/* as signalled, for the dump */
	struct viaduct_rate pps, bps;
	u64 pps_full_at, bps_full_at;
	u32 pps_limit, pps_burst, bps_limit, bps_burst;
	u32 priority;
	u8 dscp;
	/* Of the latch, until it is locked; never waited for, see forward.c. */
	spinlock_t learning;
	/* A route for each address of the latch, so that none is ever stale. */
	struct dst_cache route[VIADUCT_SLOTS];
	struct rcu_head rcu;
};

struct viaduct_leg {
	struct rhash_head node;
	struct viaduct_addr local;	/* the key */
	u8 side;			/* 0 or 1: its place in the session */
	u8 tclass_seen;
	bool heard;			/* has relayed something */
	u32 ssrc;
	unsigned long seen;		/* jiffies of the last relayed packet */
	struct viaduct_terms __rcu *terms;
	struct viaduct_counters __percpu *counters;
};

struct viaduct_owner {
	struct list_head list;		/* of the namespace */
	struct list_head sessions;
	u64 id;
	u32 portid;			/* 0: its socket is closed */
	u32 grace_s;
	u32 count;
	unsigned long gone;		/* jiffies of the closing */
};

struct viaduct_session {
	struct viaduct_leg leg[2];
	struct viaduct_owner *owner;	/* under the namespace's mutex */
	struct list_head of_owner;
	struct viaduct_net *vn;
	u64 id;
	u32 idle_s;
	bool idle_told;
	bool removed;
	refcount_t refs;
	unsigned long since;		/* jiffies of the addition */
	unsigned long events;		/* VIADUCT_EVENT_* to be told */
	unsigned long told;		/* jiffies: FOREIGN or LIMITED */
	struct llist_node pending;
	struct rcu_head rcu;
};

/* One network namespace. */
struct viaduct_net {
	struct net *net;
	struct rhashtable legs;
	struct mutex lock;		/* of all below, up to the next blank line */
	struct list_head owners;
	u32 owners_count;
	u32 sessions;
	u32 generation;
	struct list_head devices;
	u32 devices_count;
	struct list_head rules;	/* packets read it under RCU */
	u32 rules_count;
	u32 rules_generation;
	struct viaduct_queue __percpu *queues;	/* from the first rule that wants them */
	bool hooked;
	bool dying;

	struct llist_head pending;	/* sessions with events */
	struct work_struct tell;
	struct delayed_work sweep;
	struct viaduct_rate prefix_rate;
	u64 *prefix_full_at;
};

struct viaduct_net *viaduct_net(struct net *net);

static inline struct viaduct_session *viaduct_leg_session(struct viaduct_leg *leg)
{
	return container_of(leg - leg->side, struct viaduct_session, leg[0]);
}

static inline struct viaduct_leg *viaduct_leg_other(struct viaduct_leg *leg)
{
	return leg->side ? leg - 1 : leg + 1;
}

static inline void viaduct_count(struct viaduct_counters __percpu *counters,
				 enum viaduct_counter which, u64 n)
{
	struct viaduct_counters *here = this_cpu_ptr(counters);

	u64_stats_update_begin(&here->sync);
	u64_stats_add(&here->value[which], n);
	u64_stats_update_end(&here->sync);
}

struct viaduct_counters __percpu *viaduct_counters_alloc(void);
/* Sums over the CPUs; @to has VIADUCT_C_MAX + 1 places. */
void viaduct_counters_sum(struct viaduct_counters __percpu *counters, u64 *to);

struct viaduct_terms *viaduct_terms_alloc(void);
void viaduct_terms_free(struct viaduct_terms *terms);

/* In an RCU read-side section. */
struct viaduct_leg *viaduct_leg_find(struct viaduct_net *vn,
				     const struct viaduct_addr *local);

/* All below with the namespace's mutex held. */
struct viaduct_session *viaduct_session_alloc(struct viaduct_net *vn);
int viaduct_session_insert(struct viaduct_session *session,
			   struct viaduct_owner *owner);
void viaduct_session_remove(struct viaduct_session *session);
void viaduct_session_put(struct viaduct_session *session);
/* Takes @terms over. */
void viaduct_leg_replace(struct viaduct_leg *leg, struct viaduct_terms *terms);

struct viaduct_owner *viaduct_owner_find(struct viaduct_net *vn, u64 id);
struct viaduct_owner *viaduct_owner_by_portid(struct viaduct_net *vn, u32 portid);
struct viaduct_owner *viaduct_owner_alloc(struct viaduct_net *vn, u64 id);
void viaduct_owner_remove(struct viaduct_net *vn, struct viaduct_owner *owner);

int viaduct_table_init(struct viaduct_net *vn);
void viaduct_table_exit(struct viaduct_net *vn);

#endif
