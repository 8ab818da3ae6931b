/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_CORE_BUCKET_H
#define VIADUCT_CORE_BUCKET_H

#include "types.h"

/*
 * A token bucket as one word: the time at which it would be full again (the
 * theoretical arrival time of GCRA, ITU-T I.371). So it needs no lock and no
 * timer, and a bucket nobody uses costs nothing.
 */
struct viaduct_rate {
	u64 cost;	/* of one unit, in ns * 1024; 0: no limit */
	u64 depth_ns;	/* how far the bucket may be ahead of now */
};

/* @per_s units a second (0: no limit), @burst units at once (at least 1). */
void viaduct_rate_set(struct viaduct_rate *rate, u32 per_s, u32 burst);

/*
 * Takes @units at @now_ns (of any monotonic clock). False: there were not as
 * many, and nothing was taken. @full_at is the bucket, 0 at the start.
 */
bool viaduct_rate_take(const struct viaduct_rate *rate, u64 *full_at,
		       u64 now_ns, u32 units);

#endif
