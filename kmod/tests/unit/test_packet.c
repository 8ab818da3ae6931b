// SPDX-License-Identifier: GPL-2.0
/* R-M4 and R-M6: what a packet is, and whether it may pass. */
#include "core/packet.h"
#include "unit.h"

static const u8 plain_rtp[] = { 0x80, 8, 0, 1, 0, 0, 0, 160, 1, 2, 3, 4, 0xd5 };
static const u8 receiver_report[] = { 0x80, 201, 0, 1, 1, 2, 3, 4 };

static struct viaduct_rules open_rules(void)
{
	struct viaduct_rules rules = {
		.forward = VIADUCT_CLASS_RTP | VIADUCT_CLASS_RTCP,
	};

	memset(rules.payload_types, 0xff, sizeof(rules.payload_types));
	return rules;
}

static enum viaduct_fault screen(const struct viaduct_rules *rules,
				 const u8 *data, u32 len)
{
	struct viaduct_facts facts;

	return viaduct_screen(rules, data, len, &facts);
}

/* RFC 7983 section 7, octet by octet; RFC 5761 section 4 for RTCP. */
static void r_m4_every_first_octet_has_its_class(void)
{
	int first;

	for (first = 0; first < 256; first++) {
		u8 data[2] = { (u8)first, 0 };
		u32 expected = VIADUCT_CLASS_OTHER;

		if (first <= 3)
			expected = VIADUCT_CLASS_STUN;
		else if (first >= 16 && first <= 19)
			expected = VIADUCT_CLASS_ZRTP;
		else if (first >= 20 && first <= 63)
			expected = VIADUCT_CLASS_DTLS;
		else if (first >= 64 && first <= 79)
			expected = VIADUCT_CLASS_TURN;
		else if (first >= 128 && first <= 191)
			expected = VIADUCT_CLASS_RTP;
		CHECK(viaduct_classify(data, 2) == expected);
		CHECK(viaduct_classify(data, 1) == expected);
	}
	CHECK(viaduct_classify(NULL, 0) == VIADUCT_CLASS_OTHER);
}

static void r_m4_rtcp_is_told_by_the_second_octet(void)
{
	int second;

	for (second = 0; second < 256; second++) {
		u8 data[2] = { 0x80, (u8)second };
		bool rtcp = second >= 192 && second <= 223;

		CHECK(viaduct_classify(data, 2) ==
		      (rtcp ? VIADUCT_CLASS_RTCP : VIADUCT_CLASS_RTP));
	}
}

static void r_m6_rtp_needs_its_header(void)
{
	u32 len;

	for (len = 0; len < 12; len++)
		CHECK(!viaduct_rtp_valid(plain_rtp, len, false));
	CHECK(viaduct_rtp_valid(plain_rtp, 12, false));
	CHECK(viaduct_rtp_valid(plain_rtp, sizeof(plain_rtp), false));
}

static void r_m6_rtp_csrcs_must_fit(void)
{
	u8 data[12 + 60] = { 0x80 };
	u8 count;

	for (count = 0; count < 16; count++) {
		data[0] = 0x80 | count;
		CHECK(viaduct_rtp_valid(data, 12 + 4 * count, false));
		CHECK(count == 0 ||
		      !viaduct_rtp_valid(data, 12 + 4 * count - 1, false));
	}
}

static void r_m6_rtp_extension_must_fit(void)
{
	u8 data[12 + 4 + 8] = { 0x90 };

	data[15] = 2;
	CHECK(viaduct_rtp_valid(data, sizeof(data), false));
	CHECK(!viaduct_rtp_valid(data, sizeof(data) - 1, false));
	CHECK(!viaduct_rtp_valid(data, 15, false));
	CHECK(!viaduct_rtp_valid(data, 12, false));
	/* The largest length an extension can claim must not wrap. */
	data[14] = 0xff;
	data[15] = 0xff;
	CHECK(!viaduct_rtp_valid(data, sizeof(data), false));
}

static void r_m6_rtp_padding_must_fit(void)
{
	u8 data[16] = { 0xa0 };

	data[15] = 4;
	CHECK(viaduct_rtp_valid(data, 16, false));
	data[15] = 5;
	CHECK(!viaduct_rtp_valid(data, 16, false));
	data[15] = 0;
	CHECK(!viaduct_rtp_valid(data, 16, false));
	/* Without payload there is no octet to count it. */
	CHECK(!viaduct_rtp_valid(data, 12, false));
}

/* The last octets are the tag; they count nothing (RFC 3711 3.1). */
static void r_m6_srtp_padding_is_not_read(void)
{
	u8 data[16] = { 0xa0 };

	data[15] = 0xff;
	CHECK(!viaduct_rtp_valid(data, 16, false));
	CHECK(viaduct_rtp_valid(data, 16, true));
}

static void r_m6_rtcp_lengths_must_chain_to_the_end(void)
{
	u8 two[20] = { 0x80, 201, 0, 1, 1, 2, 3, 4, 0x81, 202, 0, 2 };

	CHECK(viaduct_rtcp_valid(receiver_report, 8, false));
	CHECK(viaduct_rtcp_valid(two, 20, false));
	CHECK(!viaduct_rtcp_valid(two, 19, false));
	CHECK(!viaduct_rtcp_valid(two, 12, false));
	CHECK(!viaduct_rtcp_valid(two, 4, false));
	two[9] = 96; /* RTP in the middle of a compound */
	CHECK(!viaduct_rtcp_valid(two, 20, false));
	two[9] = 202;
	two[11] = 1; /* octets behind the last packet */
	CHECK(!viaduct_rtcp_valid(two, 20, false));
	two[10] = 0xff; /* longer than any datagram */
	CHECK(!viaduct_rtcp_valid(two, 20, false));
}

static void r_m6_rtcp_padding_only_in_the_last_packet(void)
{
	u8 two[20] = { 0x80, 201, 0, 1, 1, 2, 3, 4, 0xa1, 202, 0, 2 };

	two[19] = 4;
	CHECK(viaduct_rtcp_valid(two, 20, false));
	two[19] = 3;
	CHECK(!viaduct_rtcp_valid(two, 20, false));
	two[19] = 12;
	CHECK(!viaduct_rtcp_valid(two, 20, false));
	two[19] = 4;
	two[0] = 0xa0;
	two[7] = 4;
	CHECK(!viaduct_rtcp_valid(two, 20, false));
}

static void r_m6_srtcp_is_judged_by_its_clear_part(void)
{
	u8 data[22] = { 0x80, 200, 0xff, 0xff };

	CHECK(!viaduct_rtcp_valid(data, sizeof(data), false));
	CHECK(viaduct_rtcp_valid(data, sizeof(data), true));
	CHECK(!viaduct_rtcp_valid(data, 11, true));
}

static void r_m4_classes_not_asked_for_are_refused(void)
{
	static const u8 stun[20] = { 0, 1 };
	struct viaduct_rules rules = open_rules();

	CHECK(screen(&rules, stun, sizeof(stun)) == VIADUCT_FAULT_CLASS);
	rules.up = VIADUCT_CLASS_STUN;
	CHECK(screen(&rules, stun, sizeof(stun)) == VIADUCT_FAULT_NONE);
	rules.forward = 0;
	CHECK(screen(&rules, plain_rtp, 12) == VIADUCT_FAULT_CLASS);
	CHECK(screen(&rules, NULL, 0) == VIADUCT_FAULT_CLASS);
}

static void r_m6_payload_types_are_filtered(void)
{
	struct viaduct_rules rules = open_rules();
	u8 data[13];
	int type;

	memset(rules.payload_types, 0, sizeof(rules.payload_types));
	rules.payload_types[0] = 1 << 0;	/* PCMU */
	rules.payload_types[12] = 1 << 5;	/* 101 */
	memcpy(data, plain_rtp, sizeof(data));
	for (type = 0; type < 128; type++) {
		bool wanted = type == 0 || type == 101;

		if (type >= 64 && type <= 95)
			continue; /* with the marker these are RTCP */
		data[1] = 0x80 | (u8)type; /* the marker is no part of it */
		CHECK(screen(&rules, data, 13) ==
		      (wanted ? VIADUCT_FAULT_NONE :
				VIADUCT_FAULT_PAYLOAD_TYPE));
	}
}

static void r_m6_size_is_limited(void)
{
	struct viaduct_rules rules = open_rules();

	rules.max_size = 12;
	CHECK(screen(&rules, plain_rtp, 12) == VIADUCT_FAULT_NONE);
	CHECK(screen(&rules, plain_rtp, 13) == VIADUCT_FAULT_SIZE);
}

static void the_facts_of_rtp_are_read(void)
{
	struct viaduct_rules rules = open_rules();
	struct viaduct_facts facts;

	CHECK(viaduct_screen(&rules, plain_rtp, 13, &facts) ==
	      VIADUCT_FAULT_NONE);
	CHECK(facts.class == VIADUCT_CLASS_RTP && facts.payload_type == 8);
	CHECK(facts.seq == 1 && facts.ssrc == 0x01020304);
}

int main(void)
{
	RUN(r_m4_every_first_octet_has_its_class);
	RUN(r_m4_rtcp_is_told_by_the_second_octet);
	RUN(r_m6_rtp_needs_its_header);
	RUN(r_m6_rtp_csrcs_must_fit);
	RUN(r_m6_rtp_extension_must_fit);
	RUN(r_m6_rtp_padding_must_fit);
	RUN(r_m6_srtp_padding_is_not_read);
	RUN(r_m6_rtcp_lengths_must_chain_to_the_end);
	RUN(r_m6_rtcp_padding_only_in_the_last_packet);
	RUN(r_m6_srtcp_is_judged_by_its_clear_part);
	RUN(r_m4_classes_not_asked_for_are_refused);
	RUN(r_m6_payload_types_are_filtered);
	RUN(r_m6_size_is_limited);
	RUN(the_facts_of_rtp_are_read);
	return 0;
}
