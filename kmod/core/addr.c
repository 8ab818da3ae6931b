// SPDX-License-Identifier: GPL-2.0
#include "addr.h"

static enum viaduct_scope scope_v4(const u8 *ip)
{
	if (ip[0] == 0 || ip[0] >= 224)
		return VIADUCT_SCOPE_UNUSABLE;
	if (ip[0] == 127)
		return VIADUCT_SCOPE_LOOPBACK;
	if (ip[0] == 10 || (ip[0] == 172 && (ip[1] & 0xf0) == 16) ||
	    (ip[0] == 192 && ip[1] == 168) || (ip[0] == 169 && ip[1] == 254) ||
	    (ip[0] == 100 && (ip[1] & 0xc0) == 64))
		return VIADUCT_SCOPE_PRIVATE;
	return VIADUCT_SCOPE_GLOBAL;
}

static enum viaduct_scope scope_v6(const u8 *ip)
{
	static const u8 zero[15];

	if (ip[0] == 0xff)
		return VIADUCT_SCOPE_UNUSABLE;
	if (!memcmp(ip, zero, 15))
		return ip[15] == 1 ? VIADUCT_SCOPE_LOOPBACK :
				     VIADUCT_SCOPE_UNUSABLE;
	/*
	 * IPv4-mapped and IPv4-compatible addresses never come over a wire
	 * (RFC 4291 2.5.5); let in, they would be a way round the rules above.
	 */
	if (!memcmp(ip, zero, 10) && (viaduct_be16(ip + 10) == 0xffff ||
				      viaduct_be16(ip + 10) == 0))
		return VIADUCT_SCOPE_UNUSABLE;
	if ((ip[0] & 0xfe) == 0xfc || (ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80))
		return VIADUCT_SCOPE_PRIVATE;
	return VIADUCT_SCOPE_GLOBAL;
}

enum viaduct_scope viaduct_ip_scope(const struct viaduct_addr *a)
{
	const u8 *ip = (const u8 *)a->ip;

	if (a->family == VIADUCT_V4)
		return scope_v4(ip);
	if (a->family == VIADUCT_V6)
		return scope_v6(ip);
	return VIADUCT_SCOPE_UNUSABLE;
}

enum viaduct_scope viaduct_addr_scope(const struct viaduct_addr *a)
{
	return a->port ? viaduct_ip_scope(a) : VIADUCT_SCOPE_UNUSABLE;
}

void viaduct_addr_prefix(const struct viaduct_addr *a, u32 ip[2])
{
	const u8 *octets = (const u8 *)a->ip;

	ip[0] = viaduct_be32(octets);
	ip[1] = a->family == VIADUCT_V6 ? viaduct_be32(octets + 4) : 0;
	if (a->family == VIADUCT_V4)
		ip[0] &= 0xffffff00;
}
