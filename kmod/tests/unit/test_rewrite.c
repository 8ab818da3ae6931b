// SPDX-License-Identifier: GPL-2.0
/* R-M1 and R-M7: the header that is sent. */
#include "core/rewrite.h"
#include "unit.h"

/* A checksum by the book (RFC 1071), as the judge of the quick one. */
static u16 sum(const u8 *data, size_t len, u32 start)
{
	u32 total = start;
	size_t i;

	for (i = 0; i < len; i++)
		total += i % 2 ? data[i] : (u32)data[i] << 8;
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return (u16)total;
}

static u32 pseudo(const struct viaduct_addr *src, const struct viaduct_addr *dst,
		  u16 len)
{
	size_t size = src->family == VIADUCT_V4 ? 4 : 16;

	return (u32)sum((const u8 *)src->ip, size, 0) +
	       sum((const u8 *)dst->ip, size, 0) + 17 + len;
}

/* The checksum of a UDP packet with this payload. */
static u16 whole_check(const struct viaduct_addr *src,
		       const struct viaduct_addr *dst, const u8 *payload, u16 len)
{
	u8 udp[8];
	u16 check;

	memcpy(udp, &src->port, 2);
	memcpy(udp + 2, &dst->port, 2);
	udp[4] = (u8)((len + 8) >> 8);
	udp[5] = (u8)(len + 8);
	udp[6] = 0;
	udp[7] = 0;
	check = (u16)~sum(payload, len,
			  sum(udp, 8, pseudo(src, dst, (u16)(len + 8))));
	return check ? check : 0xffff;
}

static void check_pair(const struct viaduct_addr *old, const struct viaduct_addr *new,
		       const u8 *payload, u16 len)
{
	u16 before = whole_check(&old[0], &old[1], payload, len);
	u16 after = whole_check(&new[0], &new[1], payload, len);
	__be16 quick = viaduct_udp_check(htons(before), &old[0], &old[1],
					 &new[0], &new[1]);

	CHECK(ntohs(quick) == after);
}

static void r_m1_the_checksum_is_the_one_a_whole_sum_gives(void)
{
	struct viaduct_addr ends[4] = { addr("192.0.2.1", 4000),
					addr("198.51.100.7", 30000),
					addr("2001:db8::1", 65535),
					addr("fe80::ffff:ffff", 1) };
	u8 payload[64];
	int a, b, c, d, round;
	size_t i;

	srand(1);
	for (round = 0; round < 200; round++) {
		for (i = 0; i < sizeof(payload); i++)
			payload[i] = (u8)rand();
		for (a = 0; a < 4; a++)
			for (b = a & 2; b < (a & 2) + 2; b++)
				for (c = 0; c < 4; c++)
					for (d = c & 2; d < (c & 2) + 2; d++) {
						struct viaduct_addr old[2] = { ends[a], ends[b] };
						struct viaduct_addr new[2] = { ends[c], ends[d] };

						check_pair(old, new, payload,
							   (u16)(rand() % 65));
					}
	}
}

static void r_m1_a_damaged_packet_stays_damaged(void)
{
	struct viaduct_addr old[2] = { addr("192.0.2.1", 4000), addr("192.0.2.2", 2) };
	struct viaduct_addr new[2] = { addr("10.0.0.1", 9), addr("10.0.0.2", 10) };
	u8 payload[4] = { 1, 2, 3, 4 };
	u16 before = whole_check(&old[0], &old[1], payload, 4);
	__be16 quick;

	payload[0] ^= 0x10;
	quick = viaduct_udp_check(htons(before), &old[0], &old[1], &new[0], &new[1]);
	CHECK(ntohs(quick) != whole_check(&new[0], &new[1], payload, 4));
}

static void r_m1_the_ipv4_header_is_new_in_every_octet(void)
{
	struct viaduct_addr src = addr("192.0.2.1", 1), dst = addr("192.0.2.2", 2);
	struct viaduct_hop hop = { .tclass = 0xb8, .ttl = 63, .dont_fragment = true };
	u8 header[20];

	memset(header, 0xee, sizeof(header));
	viaduct_write_ipv4(header, &src, &dst, &hop, 180, 0x1234);
	CHECK(header[0] == 0x45 && header[1] == 0xb8);
	CHECK(header[2] == 0 && header[3] == 200);
	CHECK(header[4] == 0x12 && header[5] == 0x34);
	CHECK(header[6] == 0x40 && header[7] == 0);
	CHECK(header[8] == 63 && header[9] == 17);
	CHECK(sum(header, 20, 0) == 0xffff);
	CHECK(!memcmp(header + 12, src.ip, 4) && !memcmp(header + 16, dst.ip, 4));
}

static void r_m1_the_ipv6_header_has_no_flow_label(void)
{
	struct viaduct_addr src = addr("2001:db8::1", 1);
	struct viaduct_addr dst = addr("2001:db8::2", 2);
	struct viaduct_hop hop = { .tclass = 0xb9, .ttl = 5 };
	u8 header[40];

	memset(header, 0xee, sizeof(header));
	viaduct_write_ipv6(header, &src, &dst, &hop, 0x0102);
	CHECK(header[0] == 0x6b && header[1] == 0x90);
	CHECK(header[2] == 0 && header[3] == 0);
	CHECK(header[4] == 1 && header[5] == 2);
	CHECK(header[6] == 17 && header[7] == 5);
	CHECK(!memcmp(header + 8, src.ip, 16) && !memcmp(header + 24, dst.ip, 16));
}

static void r_m7_dscp_is_set_or_copied_and_ecn_is_kept(void)
{
	CHECK(viaduct_tclass(0x03, 46) == ((46 << 2) | 3));
	CHECK(viaduct_tclass(0xb9, 0) == 0x01);
	CHECK(viaduct_tclass(0x8a, VIADUCT_DSCP_COPY) == 0x8a);
}

int main(void)
{
	RUN(r_m1_the_checksum_is_the_one_a_whole_sum_gives);
	RUN(r_m1_a_damaged_packet_stays_damaged);
	RUN(r_m1_the_ipv4_header_is_new_in_every_octet);
	RUN(r_m1_the_ipv6_header_has_no_flow_label);
	RUN(r_m7_dscp_is_set_or_copied_and_ecn_is_kept);
	return 0;
}
