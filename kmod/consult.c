// SPDX-License-Identifier: GPL-2.0
/*
 * What XDP programs may ask: whose a packet is that has not come to the stack yet, and where the rules
 * want it. A program that can ask holds this module, so nothing is here that its unloading takes away.
 */
#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/in.h>
#include <linux/module.h>
#include <net/xdp.h>

#include "consult.h"
#include "forward.h"
#include "steer.h"

/* Linux 6.3 and later say with it what else a function that programs call has to be. */
#ifndef __bpf_kfunc
#define __bpf_kfunc __used noinline
#endif

static bool is_unused(const u8 *octets, unsigned int count)
{
	return !memchr_inv(octets, 0, count);
}

/* What was asked about, as the rules have it. False: it makes no sense. */
static bool understand(const struct viaduct_asked *asked, struct viaduct_addr *src,
		       struct viaduct_addr *dst, u32 *protocol)
{
	if (asked->reserved || asked->cpu)
		return false;
	if (asked->protocol == IPPROTO_UDP)
		*protocol = VIADUCT_PROTO_UDP;
	else if (asked->protocol == IPPROTO_TCP)
		*protocol = VIADUCT_PROTO_TCP;
	else
		return false;
	if (asked->family == VIADUCT_V4) {
		if (!is_unused(asked->src + 4, 12) || !is_unused(asked->dst + 4, 12))
			return false;
	} else if (asked->family != VIADUCT_V6) {
		return false;
	}
	BUILD_BUG_ON(sizeof(src->ip) != sizeof(asked->src));
	memcpy(src->ip, asked->src, sizeof(src->ip));
	memcpy(dst->ip, asked->dst, sizeof(dst->ip));
	src->port = asked->src_port;
	dst->port = asked->dst_port;
	src->family = asked->family;
	dst->family = asked->family;
	return true;
}

__bpf_kfunc int viaduct_xdp_consult(struct xdp_md *xdp, struct viaduct_asked *asked, u32 asked__sz)
{
	const struct xdp_buff *ctx = (const struct xdp_buff *)xdp;
	const struct net_device *dev = ctx->rxq->dev;
	struct viaduct_steer_packet packet = {};
	struct viaduct_addr src, dst;
	struct viaduct_net *vn;
	unsigned int cpu;
	int told = 0;

	if (asked__sz != sizeof(*asked) || !understand(asked, &src, &dst, &packet.protocol))
		return -EINVAL;
	/* PRE_ROUTING leaves it to the IP layer, which refuses it. */
	if (viaduct_is_martian(dev, &src))
		return 0;
	vn = viaduct_net(dev_net(dev));
	packet.dst = &dst;
	rcu_read_lock();
	if (packet.protocol == VIADUCT_PROTO_UDP)
		packet.to_leg = viaduct_leg_find(vn, &dst);
	if (packet.to_leg)
		told |= VIADUCT_ASKED_LEG;
	if (viaduct_steer_consult(vn, &src, &packet, &cpu)) {
		told |= VIADUCT_ASKED_CPU;
		asked->cpu = cpu;
	}
	rcu_read_unlock();
	return told;
}

#ifdef BTF_KFUNCS_START
BTF_KFUNCS_START(consult_ids)
BTF_ID_FLAGS(func, viaduct_xdp_consult)
BTF_KFUNCS_END(consult_ids)
#define HAS_KFUNCS
#elif defined(BTF_SET8_START)
BTF_SET8_START(consult_ids)
BTF_ID_FLAGS(func, viaduct_xdp_consult)
BTF_SET8_END(consult_ids)
#define HAS_KFUNCS
#endif

#ifdef HAS_KFUNCS
static const struct btf_kfunc_id_set consult_set = {
	.owner = THIS_MODULE,
	.set = &consult_ids,
};

void viaduct_consult_init(void)
{
	int err = register_btf_kfunc_id_set(BPF_PROG_TYPE_XDP, &consult_set);

	/* All else goes without. */
	if (err)
		pr_info("viaduct: XDP programs cannot consult it (%d): built without BTF?\n", err);
}
#else
void viaduct_consult_init(void)
{
}
#endif
