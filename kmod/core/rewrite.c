// SPDX-License-Identifier: GPL-2.0
#include "rewrite.h"

#define PROTOCOL_UDP 17

static void put_be16(u8 *to, u16 value)
{
	to[0] = (u8)(value >> 8);
	to[1] = (u8)value;
}

/*
 * Ones' complement sum of so many times four octets, as this machine reads them: the order of octets
 * changes nothing but the order of the sum's own (RFC 1071 2), and four at once are fewer steps.
 */
static u64 sum_words(const void *data, u32 words, u64 sum)
{
	const u8 *p = data;
	u32 word, i;

	/* For an IPv4 header the loop itself would be more than the sum. */
#pragma GCC unroll 5
	for (i = 0; i < words; i++) {
		memcpy(&word, p + 4 * i, sizeof(word));
		sum += word;
	}
	return sum;
}

/* Of less than 2^16 words: the first fold leaves 2^32 at most by less than 2^16, so two more do. */
static u16 fold(u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (u16)sum;
}

void viaduct_write_ipv4(u8 *to, const struct viaduct_addr *src,
			const struct viaduct_addr *dst,
			const struct viaduct_hop *hop, u16 udp_len, u16 id)
{
	u16 check;

	to[0] = 0x45;
	to[1] = hop->tclass;
	put_be16(to + 2, VIADUCT_IPV4_SIZE + udp_len);
	put_be16(to + 4, id);
	put_be16(to + 6, hop->dont_fragment ? 0x4000 : 0);
	to[8] = hop->ttl;
	to[9] = PROTOCOL_UDP;
	put_be16(to + 10, 0);
	memcpy(to + 12, src->ip, 4);
	memcpy(to + 16, dst->ip, 4);
	check = (u16)~fold(sum_words(to, VIADUCT_IPV4_SIZE / 4, 0));
	memcpy(to + 10, &check, sizeof(check));
}

void viaduct_write_ipv6(u8 *to, const struct viaduct_addr *src,
			const struct viaduct_addr *dst,
			const struct viaduct_hop *hop, u16 udp_len)
{
	to[0] = 0x60 | (hop->tclass >> 4);
	to[1] = (u8)(hop->tclass << 4);
	to[2] = 0;
	to[3] = 0;
	put_be16(to + 4, udp_len);
	to[6] = PROTOCOL_UDP;
	to[7] = hop->ttl;
	memcpy(to + 8, src->ip, 16);
	memcpy(to + 24, dst->ip, 16);
}

/* What IPv4 does not use is zero. */
static u64 sum_addr(const struct viaduct_addr *a, u64 sum)
{
	u16 port;

	memcpy(&port, &a->port, sizeof(port));
	return sum_words(a->ip, 4, sum) + port;
}

__be16 viaduct_udp_check(__be16 check, const struct viaduct_addr *old_src,
			 const struct viaduct_addr *old_dst,
			 const struct viaduct_addr *src,
			 const struct viaduct_addr *dst)
{
	u16 old = fold(sum_addr(old_dst, sum_addr(old_src, 0)));
	u16 new = fold(sum_addr(dst, sum_addr(src, 0)));
	u16 value;

	memcpy(&value, &check, sizeof(value));
	/* RFC 1624, equation 3; length and protocol are the same in both. */
	value = (u16)~fold((u64)(u16)~value + (u16)~old + new);
	/* 0 would say that there is no checksum (RFC 768). */
	value = value ? value : 0xffff;
	memcpy(&check, &value, sizeof(check));
	return check;
}
