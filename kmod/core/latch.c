// SPDX-License-Identifier: GPL-2.0
#include "latch.h"
#include "../uapi/viaduct.h"

#define HANDOVER_SEQ_MAX 32

void viaduct_latch_init(struct viaduct_latch *latch,
			const struct viaduct_latch_terms *terms, u64 now_ms)
{
	memset(latch, 0, sizeof(*latch));
	latch->slot[VIADUCT_SLOT_SIGNALLED] = terms->signalled;
	latch->deadline_ms = now_ms + terms->window_ms;
	latch->settle_ms = terms->settle_ms;
	latch->min_rank = terms->min_rank;
	latch->flags = terms->flags;
	latch->locked = terms->window_ms == 0;
}

/* Addresses that are never learned, whatever they send (R-M5). */
static bool may_learn(const struct viaduct_latch *latch,
		      const struct viaduct_addr *src)
{
	switch (viaduct_addr_scope(src)) {
	case VIADUCT_SCOPE_GLOBAL:
		return true;
	case VIADUCT_SCOPE_PRIVATE:
		return !(latch->flags & VIADUCT_LEG_F_NO_PRIVATE);
	case VIADUCT_SCOPE_LOOPBACK:
		return latch->flags & VIADUCT_LEG_F_LOOPBACK;
	default:
		return false;
	}
}

u8 viaduct_latch_rank(const struct viaduct_latch *latch,
		      const struct viaduct_addr *src)
{
	const struct viaduct_addr *signalled =
		&latch->slot[VIADUCT_SLOT_SIGNALLED];

	if (viaduct_addr_equal(src, signalled))
		return VIADUCT_RANK_EXACT;
	if (!may_learn(latch, src))
		return 0;
	if (viaduct_addr_same_ip(src, signalled))
		return VIADUCT_RANK_ADDRESS;
	if (signalled->family == src->family && signalled->port == src->port)
		return VIADUCT_RANK_PORT;
	return VIADUCT_RANK_ANY;
}

static u64 lock_at(const struct viaduct_latch *latch)
{
	u64 settled;

	if (!READ_ONCE(latch->best_rank))
		return latch->deadline_ms;
	settled = READ_ONCE(latch->best_since_ms) + latch->settle_ms;
	return settled < latch->deadline_ms ? settled : latch->deadline_ms;
}

bool viaduct_latch_due(const struct viaduct_latch *latch, u64 now_ms)
{
	return !smp_load_acquire(&latch->locked) && now_ms >= lock_at(latch);
}

/* @slot is filled already. */
static void lock_to(struct viaduct_latch *latch, u8 slot)
{
	smp_store_release(&latch->active, slot);
	smp_store_release(&latch->locked, 1);
}

bool viaduct_latch_settle(struct viaduct_latch *latch, u64 now_ms)
{
	if (!viaduct_latch_due(latch, now_ms))
		return false;
	if (latch->best_rank) {
		latch->slot[VIADUCT_SLOT_LEARNED] = latch->best;
		lock_to(latch, VIADUCT_SLOT_LEARNED);
	} else {
		lock_to(latch, VIADUCT_SLOT_SIGNALLED);
	}
	return true;
}

enum viaduct_source viaduct_latch_observe(struct viaduct_latch *latch,
					  u64 now_ms,
					  const struct viaduct_addr *src,
					  bool counts, bool own)
{
	u8 rank;

	viaduct_latch_settle(latch, now_ms);
	if (latch->locked)
		return viaduct_latch_check(latch, src);
	rank = viaduct_latch_rank(latch, src);
	if (rank == VIADUCT_RANK_EXACT) {
		if (counts)
			lock_to(latch, VIADUCT_SLOT_SIGNALLED);
		return VIADUCT_SOURCE_PEER;
	}
	if (own || rank == 0 || rank < latch->min_rank)
		return VIADUCT_SOURCE_FOREIGN;
	if (!counts)
		return VIADUCT_SOURCE_CANDIDATE;
	/* The first of a rank stays: a later one must be better, not louder. */
	if (rank > latch->best_rank) {
		latch->best = *src;
		WRITE_ONCE(latch->best_since_ms, now_ms);
		WRITE_ONCE(latch->best_rank, rank);
		viaduct_latch_settle(latch, now_ms);
		if (latch->locked)
			return viaduct_latch_check(latch, src);
	}
	/*
	 * The host signalling named, behind a NAT that changed the port: let
	 * it be heard at once. Others wait until they are locked.
	 */
	if (rank == VIADUCT_RANK_ADDRESS && viaduct_addr_equal(src, &latch->best))
		return VIADUCT_SOURCE_PEER;
	return VIADUCT_SOURCE_CANDIDATE;
}

void viaduct_latch_heard(struct viaduct_latch *latch, u32 ssrc, u16 seq)
{
	if (!(latch->flags & VIADUCT_LEG_F_HANDOVER))
		return;
	WRITE_ONCE(latch->seq, seq);
	WRITE_ONCE(latch->ssrc, ssrc);
	WRITE_ONCE(latch->rtp_seen, 1);
}

bool viaduct_latch_handover(struct viaduct_latch *latch,
			    const struct viaduct_addr *src, u32 ssrc, u16 seq,
			    bool own)
{
	u16 ahead = (u16)(seq - READ_ONCE(latch->seq));

	if (!(latch->flags & VIADUCT_LEG_F_HANDOVER) || !latch->locked)
		return false;
	if (!READ_ONCE(latch->rtp_seen) || READ_ONCE(latch->ssrc) != ssrc)
		return false;
	if (ahead == 0 || ahead > HANDOVER_SEQ_MAX)
		return false;
	if (own || !may_learn(latch, src))
		return false;
	if (latch->active == VIADUCT_SLOT_HANDED_OVER)
		return false; /* once; signalling can open the latch again */
	latch->slot[VIADUCT_SLOT_HANDED_OVER] = *src;
	smp_store_release(&latch->active, VIADUCT_SLOT_HANDED_OVER);
	return true;
}
