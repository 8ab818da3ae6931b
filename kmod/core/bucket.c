// SPDX-License-Identifier: GPL-2.0
#include "bucket.h"

#ifdef __KERNEL__
#include <linux/math64.h>
#else
static inline u64 div_u64(u64 a, u32 b)
{
	return a / b;
}
#endif

#define NS_PER_S 1000000000ULL
/* With so many CPUs on one bucket at once, the packet counts as one too many. */
#define ATTEMPTS_MAX 8

void viaduct_rate_set(struct viaduct_rate *rate, u32 per_s, u32 burst)
{
	rate->cost = per_s ? div_u64(NS_PER_S << 10, per_s) : 0;
	/* Whole units, so that a burst of exactly @burst fits. */
	rate->depth_ns = (rate->cost >> 10) * burst +
			 (((rate->cost & 1023) * burst) >> 10);
}

bool viaduct_rate_take(const struct viaduct_rate *rate, u64 *full_at,
		       u64 now_ns, u32 units)
{
	u64 cost = (rate->cost * units) >> 10;
	int attempt;

	if (rate->cost == 0)
		return true;
	for (attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
		u64 old = READ_ONCE(*full_at);
		u64 next = (old > now_ns ? old : now_ns) + cost;

		if (next - now_ns > rate->depth_ns)
			return false;
		if (cmpxchg64(full_at, old, next) == old)
			return true;
	}
	return false;
}
