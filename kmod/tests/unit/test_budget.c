// SPDX-License-Identifier: GPL-2.0
/* R-M3: token buckets; and the prefix whose sources share one. */
#include "core/bucket.h"
#include "unit.h"

#define SECOND 1000000000ULL

static u32 taken(const struct viaduct_rate *rate, u64 *bucket, u64 now, u32 tries)
{
	u32 passed = 0;

	while (tries--)
		passed += viaduct_rate_take(rate, bucket, now, 1);
	return passed;
}

static void r_m3_a_burst_is_exactly_as_large_as_said(void)
{
	static const u32 rates[] = { 1, 3, 50, 1000, 999983, 4000000000U };
	static const u32 bursts[] = { 1, 2, 17, 1000 };
	size_t r, b;

	for (r = 0; r < sizeof(rates) / sizeof(rates[0]); r++) {
		for (b = 0; b < sizeof(bursts) / sizeof(bursts[0]); b++) {
			struct viaduct_rate rate;
			u64 bucket = 0;

			viaduct_rate_set(&rate, rates[r], bursts[b]);
			if ((rate.cost >> 10) == 0)
				continue; /* finer than the clock */
			CHECK(taken(&rate, &bucket, 5 * SECOND, 2000) ==
			      bursts[b]);
		}
	}
}

static void r_m3_over_time_the_rate_holds(void)
{
	struct viaduct_rate rate;
	u64 bucket = 0, now = 0;
	u32 passed = 0;

	viaduct_rate_set(&rate, 50, 10);
	for (; now < 100 * SECOND; now += SECOND / 1000)
		passed += viaduct_rate_take(&rate, &bucket, now, 1);
	CHECK(passed >= 100 * 50 && passed <= 100 * 50 + 10);
}

static void r_m3_octets_are_counted_as_units(void)
{
	struct viaduct_rate rate;
	u64 bucket = 0;

	viaduct_rate_set(&rate, 8000, 4000);
	CHECK(viaduct_rate_take(&rate, &bucket, SECOND, 4000));
	CHECK(!viaduct_rate_take(&rate, &bucket, SECOND, 1));
	CHECK(viaduct_rate_take(&rate, &bucket, SECOND + SECOND / 2, 4000));
	CHECK(!viaduct_rate_take(&rate, &bucket, 2 * SECOND, 4001));
}

static void r_m3_no_limit_never_refuses(void)
{
	struct viaduct_rate rate;
	u64 bucket = 0;

	viaduct_rate_set(&rate, 0, 1);
	CHECK(taken(&rate, &bucket, 0, 1000) == 1000 && bucket == 0);
}

/* CPUs read the clock a little apart. */
static void r_m3_a_clock_that_goes_back_gives_nothing_away(void)
{
	struct viaduct_rate rate;
	u64 bucket = 0;

	viaduct_rate_set(&rate, 100, 5);
	CHECK(taken(&rate, &bucket, 10 * SECOND, 10) == 5);
	CHECK(taken(&rate, &bucket, 10 * SECOND - 1000, 10) == 0);
}

static void sources_share_a_budget_by_prefix(void)
{
	struct viaduct_addr a = addr("192.0.2.1", 1), b = addr("192.0.2.254", 9);
	struct viaduct_addr c = addr("192.0.3.1", 1);
	struct viaduct_addr v6 = addr("2001:db8:0:1::1", 1);
	struct viaduct_addr same = addr("2001:db8:0:1:ffff::", 1);
	struct viaduct_addr other = addr("2001:db8:0:2::1", 1);
	u32 one[2], two[2];

	viaduct_addr_prefix(&a, one);
	viaduct_addr_prefix(&b, two);
	CHECK(!memcmp(one, two, sizeof(one)));
	viaduct_addr_prefix(&c, two);
	CHECK(memcmp(one, two, sizeof(one)));
	viaduct_addr_prefix(&v6, one);
	viaduct_addr_prefix(&same, two);
	CHECK(!memcmp(one, two, sizeof(one)));
	viaduct_addr_prefix(&other, two);
	CHECK(memcmp(one, two, sizeof(one)));
}

int main(void)
{
	RUN(r_m3_a_burst_is_exactly_as_large_as_said);
	RUN(r_m3_over_time_the_rate_holds);
	RUN(r_m3_octets_are_counted_as_units);
	RUN(r_m3_no_limit_never_refuses);
	RUN(r_m3_a_clock_that_goes_back_gives_nothing_away);
	RUN(sources_share_a_budget_by_prefix);
	return 0;
}
