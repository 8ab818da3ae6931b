// SPDX-License-Identifier: GPL-2.0
/* Which packets a steering rule fits, and which CPU a flow is given. */
#include "core/steer.h"
#include "unit.h"

static struct viaduct_steer sip_rule(void)
{
	struct viaduct_steer rule = {
		.class = VIADUCT_STEER_SIP,
		.protocols = VIADUCT_PROTO_UDP | VIADUCT_PROTO_TCP,
		.port_first = 5060,
		.port_last = 5061,
	};

	return rule;
}

static bool fits(const struct viaduct_steer *rule, const char *ip,
		 unsigned int port, u32 protocol, bool to_leg)
{
	struct viaduct_addr dst = addr(ip, port);
	struct viaduct_steer_packet packet = { &dst, protocol, to_leg };

	return viaduct_steer_fits(rule, &packet);
}

static void a_rule_fits_its_ports_with_both_ends(void)
{
	struct viaduct_steer rule = sip_rule();

	CHECK(!fits(&rule, "192.0.2.1", 5059, VIADUCT_PROTO_UDP, false));
	CHECK(fits(&rule, "192.0.2.1", 5060, VIADUCT_PROTO_UDP, false));
	CHECK(fits(&rule, "2001:db8::1", 5061, VIADUCT_PROTO_UDP, false));
	CHECK(!fits(&rule, "192.0.2.1", 5062, VIADUCT_PROTO_UDP, false));
	rule.port_first = 1;
	rule.port_last = 65535;
	CHECK(fits(&rule, "192.0.2.1", 1, VIADUCT_PROTO_UDP, false));
	CHECK(fits(&rule, "192.0.2.1", 65535, VIADUCT_PROTO_UDP, false));
	CHECK(!fits(&rule, "192.0.2.1", 0, VIADUCT_PROTO_UDP, false));
}

static void a_rule_fits_its_protocols(void)
{
	struct viaduct_steer rule = sip_rule();

	CHECK(fits(&rule, "192.0.2.1", 5060, VIADUCT_PROTO_TCP, false));
	rule.protocols = VIADUCT_PROTO_UDP;
	CHECK(!fits(&rule, "192.0.2.1", 5060, VIADUCT_PROTO_TCP, false));
	CHECK(fits(&rule, "192.0.2.1", 5060, VIADUCT_PROTO_UDP, false));
}

static void an_address_keeps_others_and_the_other_family_out(void)
{
	struct viaduct_steer rule = sip_rule();

	rule.addr = addr("192.0.2.1", 0);
	CHECK(fits(&rule, "192.0.2.1", 5060, VIADUCT_PROTO_UDP, false));
	CHECK(!fits(&rule, "192.0.2.2", 5060, VIADUCT_PROTO_UDP, false));
	CHECK(!fits(&rule, "2001:db8::1", 5060, VIADUCT_PROTO_UDP, false));
	rule.addr = addr("2001:db8::1", 0);
	CHECK(fits(&rule, "2001:db8::1", 5060, VIADUCT_PROTO_UDP, false));
	CHECK(!fits(&rule, "2001:db8:0:1::1", 5060, VIADUCT_PROTO_UDP, false));
	CHECK(!fits(&rule, "192.0.2.1", 5060, VIADUCT_PROTO_UDP, false));
}

static void rtp_is_what_is_sent_to_a_leg(void)
{
	struct viaduct_steer rule = sip_rule();

	/* SIP does not ask: a leg on its port is no reason to treat it otherwise. */
	CHECK(fits(&rule, "192.0.2.1", 5060, VIADUCT_PROTO_UDP, true));
	rule.class = VIADUCT_STEER_RTP;
	rule.protocols = VIADUCT_PROTO_UDP;
	CHECK(!fits(&rule, "192.0.2.1", 5060, VIADUCT_PROTO_UDP, false));
	CHECK(fits(&rule, "192.0.2.1", 5060, VIADUCT_PROTO_UDP, true));
	CHECK(!fits(&rule, "192.0.2.1", 5062, VIADUCT_PROTO_UDP, true));
}

static void a_mask_is_read_and_written_back(void)
{
	static const u8 some[] = { 0x05, 0x00, 0x80 };
	u8 back[VIADUCT_CPU_OCTETS_MAX];
	struct viaduct_steer rule = {};

	CHECK(viaduct_steer_cpus(&rule, some, 3, 24) == VIADUCT_MASK_OK);
	CHECK(rule.cpus_count == 3);
	CHECK(rule.cpus[0] == 0 && rule.cpus[1] == 2 && rule.cpus[2] == 23);
	CHECK(viaduct_steer_mask(&rule, back) == 3 && !memcmp(back, some, 3));
	rule.cpus_count = 0;
	CHECK(viaduct_steer_mask(&rule, back) == 0);
}

static void a_mask_names_only_cpus_there_can_be(void)
{
	static const u8 none[4], last[] = { 0, 0, 0x80 };
	u8 all[VIADUCT_CPU_OCTETS_MAX];
	struct viaduct_steer rule = {};

	CHECK(viaduct_steer_cpus(&rule, none, 4, 24) == VIADUCT_MASK_EMPTY);
	CHECK(viaduct_steer_cpus(&rule, last, 3, 23) == VIADUCT_MASK_RANGE);
	/* Zeros behind the last CPU are no CPUs. */
	CHECK(viaduct_steer_cpus(&rule, last, 3, 24) == VIADUCT_MASK_OK);
	memset(all, 0xff, sizeof(all));
	CHECK(viaduct_steer_cpus(&rule, all, 16, 1024) == VIADUCT_MASK_OK);
	CHECK(rule.cpus_count == 128);
	CHECK(viaduct_steer_cpus(&rule, all, 17, 1024) == VIADUCT_MASK_MANY);
}

static void a_flow_has_one_hash_and_another_flow_another(void)
{
	struct viaduct_addr a = addr("192.0.2.1", 5060), b = addr("192.0.2.2", 5060);
	struct viaduct_addr other = addr("192.0.2.1", 5061);
	u32 hash = viaduct_flow_hash(&a, &b, VIADUCT_PROTO_UDP, 7);

	CHECK(hash == viaduct_flow_hash(&a, &b, VIADUCT_PROTO_UDP, 7));
	CHECK(hash != viaduct_flow_hash(&other, &b, VIADUCT_PROTO_UDP, 7));
	CHECK(hash != viaduct_flow_hash(&b, &a, VIADUCT_PROTO_UDP, 7));
	CHECK(hash != viaduct_flow_hash(&a, &b, VIADUCT_PROTO_TCP, 7));
	CHECK(hash != viaduct_flow_hash(&a, &b, VIADUCT_PROTO_UDP, 8));
}

static void flows_are_spread_over_all_the_cpus(void)
{
	static const u8 mask[] = { 0xa6 };	/* 1, 2, 5, 7 */
	struct viaduct_addr dst = addr("192.0.2.1", 5060);
	struct viaduct_steer rule = {};
	u32 flows[8] = {}, i;

	CHECK(viaduct_steer_cpus(&rule, mask, 1, 8) == VIADUCT_MASK_OK);
	for (i = 0; i < 4000; i++) {
		struct viaduct_addr src = addr("198.51.100.1", 1024 + i);
		u32 hash = viaduct_flow_hash(&src, &dst, VIADUCT_PROTO_UDP, 1);

		flows[viaduct_steer_cpu(&rule, hash)]++;
	}
	for (i = 0; i < 8; i++)
		CHECK(mask[0] & (1 << i) ? flows[i] > 700 && flows[i] < 1300 :
					   flows[i] == 0);
	CHECK(viaduct_steer_cpu(&rule, 0) == 1);
	CHECK(viaduct_steer_cpu(&rule, 0xffffffff) == 7);
}

int main(void)
{
	RUN(a_rule_fits_its_ports_with_both_ends);
	RUN(a_rule_fits_its_protocols);
	RUN(an_address_keeps_others_and_the_other_family_out);
	RUN(rtp_is_what_is_sent_to_a_leg);
	RUN(a_mask_is_read_and_written_back);
	RUN(a_mask_names_only_cpus_there_can_be);
	RUN(a_flow_has_one_hash_and_another_flow_another);
	RUN(flows_are_spread_over_all_the_cpus);
	return 0;
}
