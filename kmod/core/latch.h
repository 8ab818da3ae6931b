/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_CORE_LATCH_H
#define VIADUCT_CORE_LATCH_H

#include "addr.h"

/*
 * Which address a leg's peer really has (R-M5).
 *
 * Signalling names one. Behind a NAT it is not the one packets come from, so
 * the latch may learn: only from the moment of signalling until a deadline,
 * by rank, once, and then it is locked. Until it is locked nothing is sent
 * anywhere but to the signalled address. CVE-2025-53399 is what happens
 * otherwise.
 *
 *   exact match seen  ------------------------------> LOCKED (signalled)
 *   candidate seen  --- deadline or settle time ----> LOCKED (learned)
 *   nobody seen  ------ deadline -------------------> LOCKED (signalled)
 *   LOCKED --- handover, once, where it is allowed -> LOCKED (handed over)
 *
 * A slot is written before `active` names it and never again, and `locked` is
 * set after that: whoever has seen `locked` reads without a lock. All that
 * changes the latch is serialised by the caller.
 */

enum viaduct_slot {
	VIADUCT_SLOT_SIGNALLED,
	VIADUCT_SLOT_LEARNED,
	VIADUCT_SLOT_HANDED_OVER,
	VIADUCT_SLOTS,
};

/* What signalling says about a leg's peer. */
struct viaduct_latch_terms {
	struct viaduct_addr signalled;	/* not set: not known yet */
	u32 window_ms;		/* 0: nothing is learned */
	u32 settle_ms;		/* the best candidate is locked so long after it
				 * was first seen, if the window lasts longer
				 */
	u8 min_rank;		/* candidates below VIADUCT_RANK_* are ignored */
	u32 flags;		/* VIADUCT_LEG_F_* */
};

struct viaduct_latch {
	struct viaduct_addr slot[VIADUCT_SLOTS];
	struct viaduct_addr best;
	u64 deadline_ms;
	u64 best_since_ms;
	u32 settle_ms;
	u32 flags;
	u32 ssrc;	/* of the last accepted RTP packet, for a handover */
	u16 seq;
	u8 rtp_seen;
	u8 min_rank;
	u8 best_rank;
	u8 active;	/* the slot the other leg sends to */
	u8 locked;
};

enum viaduct_source {
	VIADUCT_SOURCE_PEER,		/* to be relayed */
	VIADUCT_SOURCE_CANDIDATE,	/* noted, not relayed */
	VIADUCT_SOURCE_FOREIGN,		/* neither */
	VIADUCT_SOURCE_UNSETTLED,	/* ask viaduct_latch_observe() */
};

void viaduct_latch_init(struct viaduct_latch *latch,
			const struct viaduct_latch_terms *terms, u64 now_ms);

/* VIADUCT_RANK_* of a source, 0 where it may not be learned at all. */
u8 viaduct_latch_rank(const struct viaduct_latch *latch,
		      const struct viaduct_addr *src);

/* Needs no serialisation: the answer of a locked latch, else UNSETTLED. */
static inline enum viaduct_source
viaduct_latch_check(const struct viaduct_latch *latch,
		    const struct viaduct_addr *src)
{
	u8 active;

	if (!smp_load_acquire(&latch->locked))
		return VIADUCT_SOURCE_UNSETTLED;
	active = smp_load_acquire(&latch->active);
	return viaduct_addr_equal(src, &latch->slot[active]) ?
		       VIADUCT_SOURCE_PEER :
		       VIADUCT_SOURCE_FOREIGN;
}

/* Needs no serialisation: whether viaduct_latch_settle() has something to do. */
bool viaduct_latch_due(const struct viaduct_latch *latch, u64 now_ms);

/* Locks if it is time. True: it has locked now. */
bool viaduct_latch_settle(struct viaduct_latch *latch, u64 now_ms);

/*
 * A packet from @src while not locked. @counts: it is of the kind this leg may
 * learn from. @own: the source is an address somebody listens on here.
 */
enum viaduct_source viaduct_latch_observe(struct viaduct_latch *latch,
					  u64 now_ms,
					  const struct viaduct_addr *src,
					  bool counts, bool own);

/* Notes an accepted RTP packet. Races cost at worst a refused handover. */
void viaduct_latch_heard(struct viaduct_latch *latch, u32 ssrc, u16 seq);

/*
 * A foreign RTP packet at a locked latch: true if the peer has moved there. It
 * must continue the stream (same SSRC, one of the next 32 sequence numbers).
 */
bool viaduct_latch_handover(struct viaduct_latch *latch,
			    const struct viaduct_addr *src, u32 ssrc, u16 seq,
			    bool own);

/* Where to send to, by the slot it stands in; not set: nowhere. */
static inline const struct viaduct_addr *
viaduct_latch_target(const struct viaduct_latch *latch, u8 *slot)
{
	*slot = smp_load_acquire(&latch->active);
	return &latch->slot[*slot];
}

#endif
