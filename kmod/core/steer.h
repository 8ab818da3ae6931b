/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_CORE_STEER_H
#define VIADUCT_CORE_STEER_H

#include "addr.h"
#include "../uapi/viaduct.h"

#define VIADUCT_RULES_MAX 32
#define VIADUCT_CPU_OCTETS_MAX 128	/* so many in a mask */
#define VIADUCT_RULE_CPUS_MAX 128	/* so many of them may be set */
#define VIADUCT_QUEUE_ANY 0xffff

/* What is done with a packet; the first fields say with which. */
struct viaduct_steer {
	u32 id;
	u8 class;		/* VIADUCT_STEER_* */
	u8 protocols;		/* set of VIADUCT_PROTO_* */
	u16 port_first, port_last;	/* in host order */
	struct viaduct_addr addr;	/* without a port; family 0: any address */

	bool has_priority, has_mark;
	u32 priority, mark;
	u16 queue;		/* VIADUCT_QUEUE_ANY: not chosen */
	u16 cpus_count;		/* 0: it stays where it is */
	u16 cpus[VIADUCT_RULE_CPUS_MAX];
};

/* What a rule is asked about. */
struct viaduct_steer_packet {
	const struct viaduct_addr *dst;	/* with its port */
	u32 protocol;		/* one of VIADUCT_PROTO_* */
	bool to_leg;		/* to a leg of a session */
};

enum viaduct_mask {
	VIADUCT_MASK_OK,
	VIADUCT_MASK_EMPTY,
	VIADUCT_MASK_RANGE,	/* a CPU this machine cannot have */
	VIADUCT_MASK_MANY,
};

/* Reads a mask of CPUs, of which there may be @cpus, into @rule. */
enum viaduct_mask viaduct_steer_cpus(struct viaduct_steer *rule, const u8 *mask,
				     u32 octets, u32 cpus);
/* The reverse; @mask has VIADUCT_CPU_OCTETS_MAX octets. How many are of use. */
u32 viaduct_steer_mask(const struct viaduct_steer *rule, u8 *mask);

bool viaduct_steer_fits(const struct viaduct_steer *rule,
			const struct viaduct_steer_packet *packet);

/* The same for all packets of a flow; @seed keeps strangers from choosing it. */
u32 viaduct_flow_hash(const struct viaduct_addr *src,
		      const struct viaduct_addr *dst, u32 protocol, u32 seed);
/* One of the rule's CPUs, of which there is at least one. */
u32 viaduct_steer_cpu(const struct viaduct_steer *rule, u32 hash);

#endif
