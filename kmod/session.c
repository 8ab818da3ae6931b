// SPDX-License-Identifier: GPL-2.0
/*
 * Sessions, their legs and their owners. Packets find a leg under RCU; all that
 * changes anything is under the mutex of the network namespace.
 */
#include <linux/jhash.h>
#include <linux/slab.h>

#include "device.h"
#include "session.h"
#include "steer.h"

#define OWNERS_MAX 64

/*
 * Local addresses are few, and nobody outside chooses them: legs differ in their ports above all. So an
 * address may be folded, which spares each packet half of the hash.
 */
static __always_inline u32 leg_hash(const void *key, u32 len, u32 seed)
{
	const struct viaduct_addr *a = key;

	return jhash_3words((__force u32)(a->ip[0] ^ a->ip[1]),
			    (__force u32)(a->ip[2] ^ a->ip[3]),
			    (u32)a->family << 16 | (__force u16)a->port, seed);
}

static __always_inline int leg_compare(struct rhashtable_compare_arg *arg,
				       const void *leg)
{
	return !viaduct_addr_equal(arg->key,
				   &((const struct viaduct_leg *)leg)->local);
}

static const struct rhashtable_params leg_params = {
	.key_len = sizeof(struct viaduct_addr),
	.key_offset = offsetof(struct viaduct_leg, local),
	.head_offset = offsetof(struct viaduct_leg, node),
	.hashfn = leg_hash,
	.obj_cmpfn = leg_compare,
	.automatic_shrinking = true,
};

struct viaduct_leg *viaduct_leg_find(struct viaduct_net *vn,
				     const struct viaduct_addr *local)
{
	return rhashtable_lookup(&vn->legs, local, leg_params);
}

struct viaduct_counters __percpu *viaduct_counters_alloc(void)
{
	struct viaduct_counters __percpu *counters;
	int cpu;

	counters = alloc_percpu_gfp(struct viaduct_counters,
				    GFP_KERNEL_ACCOUNT);
	if (!counters)
		return NULL;
	for_each_possible_cpu(cpu)
		u64_stats_init(&per_cpu_ptr(counters, cpu)->sync);
	return counters;
}

void viaduct_counters_sum(struct viaduct_counters __percpu *counters, u64 *to)
{
	int cpu, i;

	memset(to, 0, sizeof(*to) * (VIADUCT_C_MAX + 1));
	for_each_possible_cpu(cpu) {
		const struct viaduct_counters *from = per_cpu_ptr(counters, cpu);
		u64 seen[VIADUCT_C_MAX + 1];
		unsigned int start;

		do {
			start = u64_stats_fetch_begin(&from->sync);
			for (i = 0; i <= VIADUCT_C_MAX; i++)
				seen[i] = u64_stats_read(&from->value[i]);
		} while (u64_stats_fetch_retry(&from->sync, start));
		for (i = 0; i <= VIADUCT_C_MAX; i++)
			to[i] += seen[i];
	}
}

struct viaduct_terms *viaduct_terms_alloc(void)
{
	struct viaduct_terms *terms;
	int i;

	terms = kzalloc(sizeof(*terms), GFP_KERNEL_ACCOUNT);
	if (!terms)
		return NULL;
	spin_lock_init(&terms->learning);
	for (i = 0; i < VIADUCT_SLOTS; i++) {
		if (dst_cache_init(&terms->route[i], GFP_KERNEL_ACCOUNT)) {
			viaduct_terms_free(terms);
			return NULL;
		}
	}
	return terms;
}

void viaduct_terms_free(struct viaduct_terms *terms)
{
	int i;

	if (!terms)
		return;
	for (i = 0; i < VIADUCT_SLOTS; i++)
		dst_cache_destroy(&terms->route[i]);
	kfree(terms);
}

static void terms_free_rcu(struct rcu_head *rcu)
{
	viaduct_terms_free(container_of(rcu, struct viaduct_terms, rcu));
}

void viaduct_leg_replace(struct viaduct_leg *leg, struct viaduct_terms *terms)
{
	struct viaduct_net *vn = viaduct_leg_session(leg)->vn;
	struct viaduct_terms *old;

	old = rcu_replace_pointer(leg->terms, terms,
				  lockdep_is_held(&vn->lock));
	if (old)
		call_rcu(&old->rcu, terms_free_rcu);
}

struct viaduct_session *viaduct_session_alloc(struct viaduct_net *vn)
{
	struct viaduct_session *session;
	int i;

	session = kzalloc(sizeof(*session), GFP_KERNEL_ACCOUNT);
	if (!session)
		return NULL;
	refcount_set(&session->refs, 1);
	session->vn = vn;
	session->since = jiffies;
	session->told = jiffies - HZ;
	INIT_LIST_HEAD(&session->of_owner);
	for (i = 0; i < 2; i++) {
		session->leg[i].side = i;
		session->leg[i].counters = viaduct_counters_alloc();
		if (!session->leg[i].counters) {
			viaduct_session_put(session);
			return NULL;
		}
	}
	return session;
}

/* Nobody can find it any more, and nobody reads it. */
static void session_free(struct rcu_head *rcu)
{
	struct viaduct_session *session =
		container_of(rcu, struct viaduct_session, rcu);
	int i;

#ifdef VIADUCT_LEAKY	/* to test the search for leaks: see Kbuild */
	return;
#endif
	for (i = 0; i < 2; i++) {
		viaduct_terms_free(rcu_dereference_protected(
			session->leg[i].terms, true));
		free_percpu(session->leg[i].counters);
	}
	kfree(session);
}

void viaduct_session_put(struct viaduct_session *session)
{
	if (refcount_dec_and_test(&session->refs))
		call_rcu(&session->rcu, session_free);
}

int viaduct_session_insert(struct viaduct_session *session,
			   struct viaduct_owner *owner)
{
	struct viaduct_net *vn = session->vn;
	int i, err;

	for (i = 0; i < 2; i++) {
		err = rhashtable_lookup_insert_fast(
			&vn->legs, &session->leg[i].node, leg_params);
		if (err)
			break;
	}
	if (err) {
		while (i-- > 0)
			rhashtable_remove_fast(&vn->legs,
					       &session->leg[i].node,
					       leg_params);
		/*
		 * A packet may have found the first leg before the second one
		 * was refused, and have queued the session to be told of.
		 */
		session->removed = true;
		return err;
	}
	session->owner = owner;
	list_add_tail(&session->of_owner, &owner->sessions);
	owner->count++;
	vn->sessions++;
	vn->generation++;
	return 0;
}

void viaduct_session_remove(struct viaduct_session *session)
{
	struct viaduct_net *vn = session->vn;
	int i;

	for (i = 0; i < 2; i++)
		rhashtable_remove_fast(&vn->legs, &session->leg[i].node,
				       leg_params);
	session->removed = true;
	list_del(&session->of_owner);
	session->owner->count--;
	session->owner = NULL;
	vn->sessions--;
	vn->generation++;
	viaduct_session_put(session);
}

struct viaduct_owner *viaduct_owner_find(struct viaduct_net *vn, u64 id)
{
	struct viaduct_owner *owner;

	list_for_each_entry(owner, &vn->owners, list)
		if (owner->id == id)
			return owner;
	return NULL;
}

struct viaduct_owner *viaduct_owner_by_portid(struct viaduct_net *vn, u32 portid)
{
	struct viaduct_owner *owner;

	list_for_each_entry(owner, &vn->owners, list)
		if (owner->portid == portid)
			return owner;
	return NULL;
}

struct viaduct_owner *viaduct_owner_alloc(struct viaduct_net *vn, u64 id)
{
	struct viaduct_owner *owner;

	if (vn->owners_count >= OWNERS_MAX)
		return ERR_PTR(-ENOSPC);
	owner = kzalloc(sizeof(*owner), GFP_KERNEL_ACCOUNT);
	if (!owner)
		return ERR_PTR(-ENOMEM);
	owner->id = id;
	INIT_LIST_HEAD(&owner->sessions);
	list_add_tail(&owner->list, &vn->owners);
	vn->owners_count++;
	return owner;
}

void viaduct_owner_remove(struct viaduct_net *vn, struct viaduct_owner *owner)
{
	struct viaduct_session *session, *next;

	viaduct_devices_remove(vn, owner);
	viaduct_rules_remove(vn, owner);
	list_for_each_entry_safe(session, next, &owner->sessions, of_owner)
		viaduct_session_remove(session);
	list_del(&owner->list);
	vn->owners_count--;
	kfree(owner);
}

int viaduct_table_init(struct viaduct_net *vn)
{
	return rhashtable_init(&vn->legs, &leg_params);
}

void viaduct_table_exit(struct viaduct_net *vn)
{
	rhashtable_destroy(&vn->legs);
}
