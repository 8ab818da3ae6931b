// SPDX-License-Identifier: GPL-2.0
/*
 * Random and mutated input for the core, under the address and undefined
 * behaviour sanitizers: fuzz INPUTS [SEED]. Each buffer is on the heap with
 * exactly its length, so a read behind its end is seen. Prints its seed first.
 */
#include <time.h>

#include "core/latch.h"
#include "core/packet.h"
#include "core/steer.h"
#include "unit.h"

static u64 state;

/* splitmix64, so that a seed repeats the run anywhere. */
static u64 next(void)
{
	u64 z = (state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* Octets that look like RTP or RTCP at first, then were damaged. */
static void fill(u8 *data, u32 len)
{
	u32 i, damages;

	for (i = 0; i < len; i++)
		data[i] = (u8)next();
	if (next() % 4 == 0 || len < 4)
		return;
	data[0] = 0x80 | (next() % 2 ? 0 : (u8)(next() & 0x3f));
	data[1] = next() % 2 ? (u8)(192 + next() % 32) : (u8)(next() & 0x7f);
	data[2] = 0;
	data[3] = (u8)(len / 4 - 1);
	damages = next() % 3;
	for (i = 0; i < damages; i++)
		data[next() % len] ^= (u8)(1 << next() % 8);
}

/* What has passed must really be what it is said to be. */
static void judge(const struct viaduct_rules *rules, const u8 *data, u32 len)
{
	struct viaduct_facts facts;

	if (viaduct_screen(rules, data, len, &facts) != VIADUCT_FAULT_NONE)
		return;
	CHECK(facts.class & (rules->forward | rules->up));
	CHECK(!rules->max_size || len <= rules->max_size);
	if (!(facts.class & rules->forward))
		return;
	if (facts.class == VIADUCT_CLASS_RTP) {
		CHECK(len >= 12 && data[0] >> 6 == 2);
		CHECK(facts.payload_type == (data[1] & 0x7f));
		CHECK(len >= 12U + 4 * (data[0] & 15));
	}
	if (facts.class == VIADUCT_CLASS_RTCP)
		CHECK(len >= 8 && data[1] >= 192 && data[1] <= 223);
}

static void fuzz_screen(void)
{
	struct viaduct_rules rules = {
		.forward = (u32)next() & VIADUCT_CLASS_ALL,
		.up = (u32)next() & VIADUCT_CLASS_ALL,
		.flags = (u32)next() & VIADUCT_LEG_F_SRTP,
		.max_size = next() % 4 ? 0 : (u16)(next() % 300),
	};
	u32 len = (u32)(next() % 257);
	u8 *data = malloc(len ? len : 1);

	if (next() % 4)
		rules.forward |= VIADUCT_CLASS_RTP | VIADUCT_CLASS_RTCP;
	memset(rules.payload_types, next() % 2 ? 0xff : 0x55, 16);
	fill(data, len);
	judge(&rules, data, len);
	free(data);
}

/* Few addresses, so that they meet. */
static struct viaduct_addr some_addr(void)
{
	static const char *const ips[] = { "192.0.2.1", "192.0.2.2", "10.0.0.1",
					   "127.0.0.1", "2001:db8::1" };

	return addr(ips[next() % 5], 4000 + (unsigned int)(next() % 2));
}

/*
 * Whatever comes, in whatever order: before the lock only the signalled address
 * is sent to, after it nothing changes but by one handover, and what is sent to
 * has really been heard.
 */
static void fuzz_latch(void)
{
	struct viaduct_latch_terms terms = {
		.signalled = some_addr(),
		.window_ms = (u32)(next() % 50),
		.settle_ms = (u32)(next() % 50),
		.min_rank = (u8)(1 + next() % 4),
		.flags = (u32)next() & VIADUCT_LEG_F_ALL,
	};
	struct viaduct_latch latch;
	u64 now = next() % 1000;
	int step, moves = 0;

	viaduct_latch_init(&latch, &terms, now);
	for (step = 0; step < 40; step++) {
		struct viaduct_addr src = some_addr();
		const struct viaduct_addr *target;
		bool was_locked = latch.locked;
		u8 was = latch.active, slot;
		enum viaduct_source source;

		now += next() % 5;
		source = viaduct_latch_check(&latch, &src);
		if (source == VIADUCT_SOURCE_UNSETTLED)
			source = viaduct_latch_observe(&latch, now, &src,
						       next() % 4, next() % 8 == 0);
		if (source == VIADUCT_SOURCE_PEER)
			viaduct_latch_heard(&latch, (u32)(next() % 2), (u16)step);
		else if (next() % 2)
			moves += viaduct_latch_handover(&latch, &src, 0,
							(u16)step, false);
		target = viaduct_latch_target(&latch, &slot);
		if (!latch.locked)
			CHECK(viaduct_addr_equal(target, &terms.signalled));
		if (was_locked && slot != was)
			CHECK(slot == VIADUCT_SLOT_HANDED_OVER);
		if (slot != VIADUCT_SLOT_SIGNALLED)
			CHECK(viaduct_addr_scope(target) !=
			      VIADUCT_SCOPE_UNUSABLE);
		CHECK(moves <= 1);
	}
}

/*
 * A mask that is taken is given back as it came, and names no CPU too many; a
 * packet that fits is in all of the rule's bounds, and gets one of its CPUs.
 */
static void fuzz_steer(void)
{
	struct viaduct_addr src = some_addr(), dst = some_addr();
	struct viaduct_steer rule = {
		.class = (u8)(1 + next() % 2),
		.protocols = (u8)(next() % 4),
		.port_first = (u16)(next() % 2 ? 4000 : next()),
		.port_last = (u16)(next() % 2 ? 4001 : next()),
	};
	struct viaduct_steer_packet packet = { &dst, 1U << next() % 2, next() % 2 };
	u32 octets = 1 + (u32)(next() % VIADUCT_CPU_OCTETS_MAX), i, used;
	u32 cpus = 1 + (u32)(next() % 1024);
	u8 *mask = malloc(octets), back[VIADUCT_CPU_OCTETS_MAX];

	for (i = 0; i < octets; i++)
		mask[i] = next() % 8 ? 0 : (u8)next();
	if (next() % 2) {
		rule.addr = some_addr();
		rule.addr.port = 0;
	}
	if (viaduct_steer_cpus(&rule, mask, octets, cpus) == VIADUCT_MASK_OK) {
		u16 cpu = (u16)viaduct_steer_cpu(
			&rule, viaduct_flow_hash(&src, &dst, packet.protocol,
						 (u32)next()));

		CHECK(cpu < cpus && mask[cpu / 8] & (1 << cpu % 8));
		used = viaduct_steer_mask(&rule, back);
		CHECK(used <= octets && !memcmp(back, mask, used));
		for (i = used; i < octets; i++)
			CHECK(!mask[i]);
	}
	if (viaduct_steer_fits(&rule, &packet)) {
		CHECK(rule.protocols & packet.protocol);
		CHECK(ntohs(dst.port) >= rule.port_first &&
		      ntohs(dst.port) <= rule.port_last);
		CHECK(rule.class == VIADUCT_STEER_SIP || packet.to_leg);
		CHECK(!rule.addr.family || viaduct_addr_same_ip(&rule.addr, &dst));
	}
	free(mask);
}

int main(int argc, char **argv)
{
	u64 inputs = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000;
	u64 seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (u64)time(NULL);
	u64 i;

	printf("fuzz: %llu inputs, seed %llu\n", (unsigned long long)inputs,
	       (unsigned long long)seed);
	fflush(stdout);
	state = seed;
	for (i = 0; i < inputs; i++) {
		fuzz_screen();
		if (i % 16 == 0)
			fuzz_latch();
		if (i % 4 == 0)
			fuzz_steer();
	}
	printf("ok   fuzz\n");
	return 0;
}
