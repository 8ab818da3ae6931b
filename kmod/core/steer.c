// SPDX-License-Identifier: GPL-2.0
#include "steer.h"

#ifdef __KERNEL__
#include <linux/jhash.h>
#else
/* Stands in for the kernel's; it need only be as even. */
static u32 jhash2(const u32 *words, u32 count, u32 seed)
{
	u32 hash = seed, i;

	for (i = 0; i < count; i++) {
		hash = (hash ^ words[i]) * 0x85ebca6b;
		hash ^= hash >> 15;
		hash *= 0xc2b2ae35;
		hash ^= hash >> 13;
	}
	return hash;
}
#endif

enum viaduct_mask viaduct_steer_cpus(struct viaduct_steer *rule, const u8 *mask,
				     u32 octets, u32 cpus)
{
	u32 cpu;

	rule->cpus_count = 0;
	for (cpu = 0; cpu < 8 * octets; cpu++) {
		if (!(mask[cpu / 8] & (1 << (cpu % 8))))
			continue;
		if (cpu >= cpus)
			return VIADUCT_MASK_RANGE;
		if (rule->cpus_count == VIADUCT_RULE_CPUS_MAX)
			return VIADUCT_MASK_MANY;
		rule->cpus[rule->cpus_count++] = (u16)cpu;
	}
	return rule->cpus_count ? VIADUCT_MASK_OK : VIADUCT_MASK_EMPTY;
}

u32 viaduct_steer_mask(const struct viaduct_steer *rule, u8 *mask)
{
	u32 i, octets = 0;

	memset(mask, 0, VIADUCT_CPU_OCTETS_MAX);
	for (i = 0; i < rule->cpus_count; i++) {
		u16 cpu = rule->cpus[i];

		mask[cpu / 8] |= (u8)(1 << (cpu % 8));
		octets = cpu / 8 + 1;	/* they ascend */
	}
	return octets;
}

bool viaduct_steer_fits(const struct viaduct_steer *rule,
			const struct viaduct_steer_packet *packet)
{
	const u8 *port = (const u8 *)&packet->dst->port;
	u16 at = viaduct_be16(port);

	if (!(rule->protocols & packet->protocol) || at < rule->port_first ||
	    at > rule->port_last)
		return false;
	if (rule->class == VIADUCT_STEER_RTP && !packet->to_leg)
		return false;
	return !viaduct_addr_is_set(&rule->addr) ||
	       viaduct_addr_same_ip(&rule->addr, packet->dst);
}

u32 viaduct_flow_hash(const struct viaduct_addr *src,
		      const struct viaduct_addr *dst, u32 protocol, u32 seed)
{
	u32 words[10];

	memcpy(words, src->ip, sizeof(src->ip));
	memcpy(words + 4, dst->ip, sizeof(dst->ip));
	words[8] = (u32)viaduct_be16((const u8 *)&src->port) << 16 |
		   viaduct_be16((const u8 *)&dst->port);
	words[9] = protocol;
	return jhash2(words, 10, seed);
}

u32 viaduct_steer_cpu(const struct viaduct_steer *rule, u32 hash)
{
	return rule->cpus[((u64)hash * rule->cpus_count) >> 32];
}
