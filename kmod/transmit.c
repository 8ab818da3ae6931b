// SPDX-License-Identifier: GPL-2.0
/* Rewrites a received packet in place and sends it. */
#include <linux/skbuff.h>
#include <linux/udp.h>
#include <net/ip.h>
#include <net/ip6_checksum.h>
#include <net/ip6_route.h>
#include <net/ipv6.h>
#include <net/netfilter/nf_conntrack.h>
#include <net/route.h>
#include <net/udp.h>

#include "direct.h"
#include "transmit.h"

static noinline struct dst_entry *find_route_v4(struct net *net,
						struct dst_cache *cache,
						const struct viaduct_addr *from,
						const struct viaduct_addr *to)
{
	struct flowi4 fl4 = {
		.daddr = to->ip[0],
		.saddr = from->ip[0],
		.flowi4_proto = IPPROTO_UDP,
		.fl4_sport = from->port,
		.fl4_dport = to->port,
	};
	struct rtable *rt;

	rt = ip_route_output_key(net, &fl4);
	if (IS_ERR(rt))
		return NULL;
	/* A peer signalled at the broadcast address of one of our networks. */
	if (rt->rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST)) {
		ip_rt_put(rt);
		return NULL;
	}
	dst_cache_set_ip4(cache, &rt->dst, fl4.saddr);
	return &rt->dst;
}

static noinline struct dst_entry *find_route_v6(struct net *net,
						struct dst_cache *cache,
						const struct viaduct_addr *from,
						const struct viaduct_addr *to)
{
	struct flowi6 fl6 = {
		.flowi6_proto = IPPROTO_UDP,
		.fl6_sport = from->port,
		.fl6_dport = to->port,
	};
	struct dst_entry *dst;

	memcpy(&fl6.daddr, to->ip, sizeof(fl6.daddr));
	memcpy(&fl6.saddr, from->ip, sizeof(fl6.saddr));
	dst = ip6_route_output(net, NULL, &fl6);
	if (dst->error) {
		dst_release(dst);
		return NULL;
	}
	/* For IPv4 the routing itself asks IPsec's policies. */
	dst = xfrm_lookup_route(net, dst, flowi6_to_flowi(&fl6), NULL, 0);
	if (IS_ERR(dst))
		return NULL;
	dst_cache_set_ip6(cache, dst, &fl6.saddr);
	return dst;
}

static struct dst_entry *route_to(struct net *net, struct dst_cache *cache,
				  const struct viaduct_addr *from,
				  const struct viaduct_addr *to)
{
	struct dst_entry *dst;
	struct in6_addr saddr6;
	struct rtable *rt;
	__be32 saddr;

	if (to->family == VIADUCT_V6) {
		dst = dst_cache_get_ip6(cache, &saddr6);
		return dst ?: find_route_v6(net, cache, from, to);
	}
	rt = dst_cache_get_ip4(cache, &saddr);
	return rt ? &rt->dst : find_route_v4(net, cache, from, to);
}

/* The checksum for other addresses; @udp has its new ports already. */
static void set_check(struct sk_buff *skb, struct udphdr *udp,
		      const struct viaduct_received *rx,
		      const struct viaduct_addr *from,
		      const struct viaduct_addr *to)
{
	const struct in6_addr *from6 = (const struct in6_addr *)from->ip;
	const struct in6_addr *to6 = (const struct in6_addr *)to->ip;
	bool v6 = to->family == VIADUCT_V6;

	if (skb->ip_summed == CHECKSUM_PARTIAL) {
		/* The sum of the pseudo header; the rest is added on sending. */
		udp->check = v6 ? ~udp_v6_check(rx->udp_len, from6, to6, 0) :
				  ~udp_v4_check(rx->udp_len, from->ip[0],
						to->ip[0], 0);
		return;
	}
	skb->ip_summed = CHECKSUM_NONE;
	if (udp->check) {
		udp->check = (__force __sum16)viaduct_udp_check(
			(__force __be16)udp->check, &rx->src, &rx->dst, from,
			to);
	} else if (v6) {
		/* None came, but IPv6 wants one (RFC 8200 8.1). */
		udp->check = udp_v6_check(rx->udp_len, from6, to6,
					  csum_partial(udp, rx->udp_len, 0));
		if (!udp->check)
			udp->check = CSUM_MANGLED_0;
	}
}

/* Takes off all that belongs to the packet as it was received (R-M1). */
static void scrub(struct sk_buff *skb)
{
	skb_orphan(skb);
	skb_scrub_packet(skb, true);
	skb_set_queue_mapping(skb, 0);
	skb_clear_hash(skb);
	skb->priority = 0;
	memset(skb->cb, 0, sizeof(skb->cb));
	/* As for all we send: fragment here rather than tell ourselves by ICMP. */
	skb->ignore_df = 1;
	/* A flow the table knows needs no second table. */
	nf_ct_set(skb, NULL, IP_CT_UNTRACKED);
}

/* What the leg or a rule wants of what leaves. */
static void mark(struct sk_buff *skb, const struct viaduct_steer *rule,
		 u32 leg_priority)
{
	skb->priority = leg_priority;
	if (!rule || rule->class != VIADUCT_STEER_RTP)
		return;
	if (!leg_priority && rule->has_priority)
		skb->priority = rule->priority;
	if (rule->has_mark)
		skb->mark = rule->mark;
	/* Of which the transmit queue is made: skb_tx_hash(). */
	if (rule->queue != VIADUCT_QUEUE_ANY)
		skb_record_rx_queue(skb, rule->queue);
}

static void write_udp(struct sk_buff *skb, const struct viaduct_received *rx,
		      const struct viaduct_addr *from,
		      const struct viaduct_addr *to)
{
	struct udphdr *udp;

	__skb_pull(skb, rx->udp_at);
	skb_reset_transport_header(skb);
	udp = udp_hdr(skb);
	udp->source = from->port;
	udp->dest = to->port;
	set_check(skb, udp, rx, from, to);
}

/* Another one for each packet that may be fragmented on its way (RFC 6864 4). */
static void select_ident(struct net *net, struct iphdr *ip)
{
	__ip_select_ident(net, ip, 1);
	ip_send_check(ip);
}

static void send_v4(struct net *net, struct sk_buff *skb, struct dst_entry *dst,
		    const struct viaduct_received *rx,
		    const struct viaduct_addr *from,
		    const struct viaduct_addr *to, struct viaduct_hop *hop)
{
	bool fits;

	__skb_push(skb, VIADUCT_IPV4_SIZE);
	skb_reset_network_header(skb);
	skb->protocol = htons(ETH_P_IP);
	fits = skb->len <= dst_mtu(dst);
	hop->dont_fragment = rx->hop.dont_fragment && fits;
	viaduct_write_ipv4(skb->data, from, to, hop, rx->udp_len, 0);
	skb_dst_set(skb, dst);
	if (!hop->dont_fragment)
		select_ident(net, ip_hdr(skb));
	if (!rx->at_ingress || !fits || !viaduct_send_direct_v4(skb))
		ip_local_out(net, NULL, skb);
}

static void send_v6(struct net *net, struct sk_buff *skb, struct dst_entry *dst,
		    const struct viaduct_received *rx,
		    const struct viaduct_addr *from,
		    const struct viaduct_addr *to, struct viaduct_hop *hop)
{
	__skb_push(skb, VIADUCT_IPV6_SIZE);
	skb_reset_network_header(skb);
	skb->protocol = htons(ETH_P_IPV6);
	viaduct_write_ipv6(skb->data, from, to, hop, rx->udp_len);
	skb_dst_set(skb, dst);
	if (!rx->at_ingress || skb->len > dst_mtu(dst) ||
	    !viaduct_send_direct_v6(skb))
		ip6_local_out(net, NULL, skb);
}

enum viaduct_counter viaduct_transmit(struct net *net, struct sk_buff *skb,
				      const struct viaduct_received *rx,
				      const struct viaduct_addr *from,
				      struct viaduct_terms *terms)
{
	struct viaduct_hop hop = { .ttl = rx->hop.ttl - 1 };
	const struct viaduct_addr *to;
	struct dst_entry *dst;
	int headroom;
	bool v6;
	u8 slot;

	to = viaduct_latch_target(&terms->latch, &slot);
	if (!viaduct_addr_is_set(to))
		return VIADUCT_C_NO_PEER;
	/* Two sessions that send to each other end here. */
	if (rx->hop.ttl <= 1)
		return VIADUCT_C_HOPS;
	v6 = to->family == VIADUCT_V6;
	dst = route_to(net, &terms->route[slot], from, to);
	if (!dst)
		return VIADUCT_C_NO_ROUTE;
	/* The new header takes the place of the old one, which may be shorter. */
	headroom = LL_RESERVED_SPACE(dst->dev) - (int)rx->udp_at +
		   (v6 ? VIADUCT_IPV6_SIZE : VIADUCT_IPV4_SIZE);
	if (skb_cow_head(skb, max(headroom, 0)) ||
	    pskb_trim_rcsum(skb, rx->udp_at + rx->udp_len)) {
		dst_release(dst);
		return VIADUCT_C_NO_MEMORY;
	}
	hop.tclass = viaduct_tclass(rx->hop.tclass, terms->dscp);
	write_udp(skb, rx, from, to);
	scrub(skb);
	mark(skb, rx->rule, terms->priority);
	if (v6)
		send_v6(net, skb, dst, rx, from, to, &hop);
	else
		send_v4(net, skb, dst, rx, from, to, &hop);
	return 0;
}
