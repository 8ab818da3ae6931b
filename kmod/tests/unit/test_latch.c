// SPDX-License-Identifier: GPL-2.0
/* R-M5: whom a leg believes. */
#include "core/latch.h"
#include "uapi/viaduct.h"
#include "unit.h"

#define WINDOW 3000

static struct viaduct_latch_terms learning(void)
{
	struct viaduct_latch_terms terms = {
		.signalled = addr("192.0.2.1", 4000),
		.window_ms = WINDOW,
		.settle_ms = WINDOW,
		.min_rank = VIADUCT_RANK_ANY,
	};

	return terms;
}

static enum viaduct_source rtp(struct viaduct_latch *latch, u64 now,
			       const char *ip, unsigned int port)
{
	struct viaduct_addr src = addr(ip, port);

	return viaduct_latch_observe(latch, now, &src, true, false);
}

static bool sends_to(const struct viaduct_latch *latch, const char *ip,
		     unsigned int port)
{
	struct viaduct_addr expected = addr(ip, port);
	u8 slot;

	return viaduct_addr_equal(viaduct_latch_target(latch, &slot), &expected);
}

static void r_m5_without_a_window_only_the_signalled_peer_is_heard(void)
{
	struct viaduct_latch_terms terms = learning();
	struct viaduct_addr peer = addr("192.0.2.1", 4000);
	struct viaduct_addr other_port = addr("192.0.2.1", 4001);
	struct viaduct_latch latch;

	terms.window_ms = 0;
	viaduct_latch_init(&latch, &terms, 0);
	CHECK(viaduct_latch_check(&latch, &peer) == VIADUCT_SOURCE_PEER);
	CHECK(viaduct_latch_check(&latch, &other_port) ==
	      VIADUCT_SOURCE_FOREIGN);
}

static void r_m5_an_exact_match_locks_at_once(void)
{
	struct viaduct_latch_terms terms = learning();
	struct viaduct_latch latch;

	viaduct_latch_init(&latch, &terms, 0);
	CHECK(rtp(&latch, 1, "203.0.113.9", 4000) == VIADUCT_SOURCE_CANDIDATE);
	CHECK(rtp(&latch, 2, "192.0.2.1", 4000) == VIADUCT_SOURCE_PEER);
	CHECK(latch.locked && sends_to(&latch, "192.0.2.1", 4000));
	CHECK(rtp(&latch, 3, "203.0.113.9", 4000) == VIADUCT_SOURCE_FOREIGN);
}

static void r_m5_nothing_is_sent_to_a_candidate_before_the_lock(void)
{
	struct viaduct_latch_terms terms = learning();
	struct viaduct_latch latch;
	u64 now;

	viaduct_latch_init(&latch, &terms, 0);
	for (now = 0; now < WINDOW; now += 20) {
		rtp(&latch, now, "203.0.113.9", 4000);
		rtp(&latch, now, "192.0.2.1", 5000);
		CHECK(sends_to(&latch, "192.0.2.1", 4000));
	}
}

static void r_m5_the_best_rank_wins_at_the_end_of_the_window(void)
{
	struct viaduct_latch_terms terms = learning();
	struct viaduct_latch latch;

	viaduct_latch_init(&latch, &terms, 0);
	CHECK(rtp(&latch, 1, "203.0.113.1", 1) == VIADUCT_SOURCE_CANDIDATE);
	CHECK(rtp(&latch, 2, "203.0.113.2", 4000) == VIADUCT_SOURCE_CANDIDATE);
	CHECK(rtp(&latch, 3, "192.0.2.1", 5000) == VIADUCT_SOURCE_PEER);
	CHECK(rtp(&latch, 4, "203.0.113.2", 4000) == VIADUCT_SOURCE_CANDIDATE);
	CHECK(!viaduct_latch_due(&latch, WINDOW - 1));
	CHECK(viaduct_latch_due(&latch, WINDOW));
	CHECK(viaduct_latch_settle(&latch, WINDOW));
	CHECK(sends_to(&latch, "192.0.2.1", 5000));
	CHECK(rtp(&latch, WINDOW + 1, "192.0.2.1", 5000) == VIADUCT_SOURCE_PEER);
	CHECK(rtp(&latch, WINDOW + 1, "203.0.113.2", 4000) ==
	      VIADUCT_SOURCE_FOREIGN);
}

static void r_m5_of_one_rank_the_first_stays(void)
{
	struct viaduct_latch_terms terms = learning();
	struct viaduct_latch latch;
	int i;

	viaduct_latch_init(&latch, &terms, 0);
	rtp(&latch, 1, "203.0.113.1", 7000);
	for (i = 0; i < 1000; i++)
		CHECK(rtp(&latch, 2, "203.0.113.2", 7000 + i) ==
		      VIADUCT_SOURCE_CANDIDATE);
	viaduct_latch_settle(&latch, WINDOW);
	CHECK(sends_to(&latch, "203.0.113.1", 7000));
}

static void r_m5_the_settle_time_ends_the_window_early(void)
{
	struct viaduct_latch_terms terms = learning();
	struct viaduct_latch latch;

	terms.settle_ms = 200;
	viaduct_latch_init(&latch, &terms, 0);
	rtp(&latch, 1000, "203.0.113.1", 7000);
	CHECK(!viaduct_latch_settle(&latch, 1199));
	/* A better one starts its own time. */
	rtp(&latch, 1199, "203.0.113.2", 4000);
	CHECK(!viaduct_latch_settle(&latch, 1398));
	CHECK(viaduct_latch_settle(&latch, 1399));
	CHECK(sends_to(&latch, "203.0.113.2", 4000));
	CHECK(!viaduct_latch_settle(&latch, 2000));
}

static void r_m5_nobody_heard_leaves_the_signalled_address(void)
{
	struct viaduct_latch_terms terms = learning();
	struct viaduct_latch latch;

	viaduct_latch_init(&latch, &terms, 500);
	CHECK(rtp(&latch, 500 + WINDOW, "203.0.113.1", 4000) ==
	      VIADUCT_SOURCE_FOREIGN);
	CHECK(latch.locked && sends_to(&latch, "192.0.2.1", 4000));
	CHECK(rtp(&latch, 500 + WINDOW, "192.0.2.1", 4000) ==
	      VIADUCT_SOURCE_PEER);
}

static void r_m5_stray_rtcp_makes_no_candidate(void)
{
	struct viaduct_latch_terms terms = learning();
	struct viaduct_addr src = addr("192.0.2.1", 5000);
	struct viaduct_addr exact = addr("192.0.2.1", 4000);
	struct viaduct_latch latch;

	viaduct_latch_init(&latch, &terms, 0);
	CHECK(viaduct_latch_observe(&latch, 1, &src, false, false) ==
	      VIADUCT_SOURCE_CANDIDATE);
	CHECK(viaduct_latch_observe(&latch, 1, &exact, false, false) ==
	      VIADUCT_SOURCE_PEER);
	CHECK(!latch.locked && latch.best_rank == 0);
}

static void r_m5_ranks_below_the_lowest_allowed_are_foreign(void)
{
	struct viaduct_latch_terms terms = learning();
	struct viaduct_latch latch;

	terms.min_rank = VIADUCT_RANK_ADDRESS;
	viaduct_latch_init(&latch, &terms, 0);
	CHECK(rtp(&latch, 1, "203.0.113.1", 4000) == VIADUCT_SOURCE_FOREIGN);
	CHECK(rtp(&latch, 1, "192.0.2.1", 4002) == VIADUCT_SOURCE_PEER);
}

static void r_m5_some_addresses_are_never_learned(void)
{
	static const char *const never[] = { "224.0.0.1", "255.255.255.255",
					     "0.0.0.0",	  "127.0.0.1",
					     "ff02::1",	  "::",
					     "::1",	  "::ffff:10.0.0.1" };
	struct viaduct_latch_terms terms = learning();
	struct viaduct_addr own = addr("203.0.113.7", 30000);
	struct viaduct_addr no_port = addr("203.0.113.7", 0);
	struct viaduct_latch latch;
	size_t i;

	viaduct_latch_init(&latch, &terms, 0);
	for (i = 0; i < sizeof(never) / sizeof(never[0]); i++)
		CHECK(rtp(&latch, 1, never[i], 4000) == VIADUCT_SOURCE_FOREIGN);
	CHECK(viaduct_latch_observe(&latch, 1, &own, true, true) ==
	      VIADUCT_SOURCE_FOREIGN);
	CHECK(viaduct_latch_observe(&latch, 1, &no_port, true, false) ==
	      VIADUCT_SOURCE_FOREIGN);
	viaduct_latch_settle(&latch, WINDOW);
	CHECK(sends_to(&latch, "192.0.2.1", 4000));
}

static void r_m5_private_addresses_are_learned_unless_forbidden(void)
{
	static const char *const private[] = { "10.1.1.1",     "172.31.0.1",
					       "192.168.0.1",  "100.64.0.1",
					       "169.254.1.1",  "fd00::1",
					       "fe80::1" };
	struct viaduct_latch_terms terms = learning();
	struct viaduct_latch latch;
	size_t i;

	for (i = 0; i < sizeof(private) / sizeof(private[0]); i++) {
		terms.flags = 0;
		viaduct_latch_init(&latch, &terms, 0);
		CHECK(rtp(&latch, 1, private[i], 9) == VIADUCT_SOURCE_CANDIDATE);
		terms.flags = VIADUCT_LEG_F_NO_PRIVATE;
		viaduct_latch_init(&latch, &terms, 0);
		CHECK(rtp(&latch, 1, private[i], 9) == VIADUCT_SOURCE_FOREIGN);
	}
}

static void r_m5_an_unknown_peer_can_be_learned_but_not_reflected_to(void)
{
	struct viaduct_latch_terms terms = learning();
	struct viaduct_latch latch;
	u8 slot;

	memset(&terms.signalled, 0, sizeof(terms.signalled));
	viaduct_latch_init(&latch, &terms, 0);
	CHECK(rtp(&latch, 1, "203.0.113.1", 4000) == VIADUCT_SOURCE_CANDIDATE);
	CHECK(!viaduct_addr_is_set(viaduct_latch_target(&latch, &slot)));
	viaduct_latch_settle(&latch, WINDOW);
	CHECK(sends_to(&latch, "203.0.113.1", 4000));
}

static bool moves(struct viaduct_latch *latch, const char *ip, u32 ssrc, u16 seq)
{
	struct viaduct_addr src = addr(ip, 4444);

	return viaduct_latch_handover(latch, &src, ssrc, seq, false);
}

static void r_m5_a_handover_continues_the_stream_and_happens_once(void)
{
	struct viaduct_latch_terms terms = learning();
	struct viaduct_latch latch;

	terms.window_ms = 0;
	terms.flags = VIADUCT_LEG_F_HANDOVER;
	viaduct_latch_init(&latch, &terms, 0);
	CHECK(!moves(&latch, "203.0.113.1", 7, 1));
	viaduct_latch_heard(&latch, 7, 65535);
	CHECK(!moves(&latch, "203.0.113.1", 8, 0));	/* another SSRC */
	CHECK(!moves(&latch, "203.0.113.1", 7, 65535));	/* a copy */
	CHECK(!moves(&latch, "203.0.113.1", 7, 65534));	/* going back */
	CHECK(!moves(&latch, "203.0.113.1", 7, 32));	/* a leap */
	CHECK(!moves(&latch, "127.0.0.1", 7, 0));
	CHECK(moves(&latch, "203.0.113.1", 7, 31));	/* over the wrap */
	CHECK(sends_to(&latch, "203.0.113.1", 4444));
	CHECK(!moves(&latch, "203.0.113.2", 7, 0));
}

static void r_m5_without_the_flag_nobody_moves(void)
{
	struct viaduct_latch_terms terms = learning();
	struct viaduct_latch latch;

	terms.window_ms = 0;
	viaduct_latch_init(&latch, &terms, 0);
	viaduct_latch_heard(&latch, 7, 1);
	CHECK(!moves(&latch, "203.0.113.1", 7, 2));
}

int main(void)
{
	RUN(r_m5_without_a_window_only_the_signalled_peer_is_heard);
	RUN(r_m5_an_exact_match_locks_at_once);
	RUN(r_m5_nothing_is_sent_to_a_candidate_before_the_lock);
	RUN(r_m5_the_best_rank_wins_at_the_end_of_the_window);
	RUN(r_m5_of_one_rank_the_first_stays);
	RUN(r_m5_the_settle_time_ends_the_window_early);
	RUN(r_m5_nobody_heard_leaves_the_signalled_address);
	RUN(r_m5_stray_rtcp_makes_no_candidate);
	RUN(r_m5_ranks_below_the_lowest_allowed_are_foreign);
	RUN(r_m5_some_addresses_are_never_learned);
	RUN(r_m5_private_addresses_are_learned_unless_forbidden);
	RUN(r_m5_an_unknown_peer_can_be_learned_but_not_reflected_to);
	RUN(r_m5_a_handover_continues_the_stream_and_happens_once);
	RUN(r_m5_without_the_flag_nobody_moves);
	return 0;
}
