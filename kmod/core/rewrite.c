// SPDX-License-Identifier: GPL-2.0
#include "rewrite.h"

#define PROTOCOL_UDP 17

u8 viaduct_tclass(u8 received, u8 dscp)
{
	if (dscp == VIADUCT_DSCP_COPY)
		return received;
	return (u8)((dscp << 2) | (received & 3));
}

static void put_be16(u8 *to, u16 value)
{
	to[0] = (u8)(value >> 8);
	to[1] = (u8)value;
}

/* Ones' complement sum of @len octets, an even number (RFC 1071). */
static u32 sum_octets(const void *data, u32 len, u32 sum)
{
	const u8 *p = data;
	u32 i;

	for (i = 0; i + 1 < len; i += 2)
		sum += viaduct_be16(p + i);
	return sum;
}

static u16 fold(u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (u16)sum;
}

void viaduct_write_ipv4(u8 *to, const struct viaduct_addr *src,
			const struct viaduct_addr *dst,
			const struct viaduct_hop *hop, u16 udp_len, u16 id)
{
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
	put_be16(to + 10, (u16)~fold(sum_octets(to, VIADUCT_IPV4_SIZE, 0)));
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

static u32 sum_addr(const struct viaduct_addr *a, u32 sum)
{
	sum = sum_octets(a->ip, a->family == VIADUCT_V4 ? 4 : 16, sum);
	return sum_octets(&a->port, 2, sum);
}

__be16 viaduct_udp_check(__be16 check, const struct viaduct_addr *old_src,
			 const struct viaduct_addr *old_dst,
			 const struct viaduct_addr *src,
			 const struct viaduct_addr *dst)
{
	u16 old = fold(sum_addr(old_dst, sum_addr(old_src, 0)));
	u16 new = fold(sum_addr(dst, sum_addr(src, 0)));
	u16 value = viaduct_be16((const u8 *)&check);
	__be16 result;

	/* RFC 1624, equation 3; length and protocol are the same in both. */
	value = (u16)~fold((u32)(u16)~value + (u16)~old + new);
	/* 0 would say that there is no checksum (RFC 768). */
	put_be16((u8 *)&result, value ? value : 0xffff);
	return result;
}
