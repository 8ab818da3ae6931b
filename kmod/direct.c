// SPDX-License-Identifier: GPL-2.0
/*
 * Packets that leave without the way through the IP layer. Whether they may is asked for each of them, as
 * routes, neighbours and devices change; what is out of the ordinary is left to the IP layer.
 */
#include <net/arp.h>
#include <net/ip.h>
#include <net/ip6_route.h>
#include <net/ipv6.h>
#include <net/l3mdev.h>
#include <net/ndisc.h>
#include <net/neighbour.h>
#include <net/route.h>

#include "direct.h"

/* Into no tunnel, not to be encrypted, not to ourselves, and not by a VRF's rules. */
static bool is_plain(const struct dst_entry *dst)
{
	const struct net_device *dev = dst->dev;

	return !dst->lwtstate && !dst_xfrm(dst) &&
	       !(dev->flags & IFF_LOOPBACK) && !netif_is_l3_slave(dev) &&
	       !netif_is_l3_master(dev);
}

/*
 * Only what a neighbour's link header is kept for and what the kernel would send without asking it first: the
 * queue of those that wait for an answer is the IP layer's, and so is looking for one that may have gone.
 */
static bool to_neighbour(struct sk_buff *skb, const struct neighbour *neigh)
{
	if (!neigh || !(READ_ONCE(neigh->nud_state) & NUD_CONNECTED) ||
	    !READ_ONCE(neigh->hh.hh_len))
		return false;
	skb->dev = neigh->dev;
	neigh_hh_output(&neigh->hh, skb);
	return true;
}

bool viaduct_send_direct_v4(struct sk_buff *skb)
{
	struct rtable *rt = skb_rtable(skb);
	__be32 next;

	/* A link header that is kept for IPv6 names the other protocol. */
	if (rt->dst.output != ip_output || rt->rt_type != RTN_UNICAST ||
	    rt->rt_gw_family == AF_INET6 || !is_plain(&rt->dst))
		return false;
	next = rt_nexthop(rt, ip_hdr(skb)->daddr);
	return to_neighbour(skb, __ipv4_neigh_lookup_noref(rt->dst.dev,
							   (__force u32)next));
}

bool viaduct_send_direct_v6(struct sk_buff *skb)
{
	const struct rt6_info *rt = (const struct rt6_info *)skb_dst(skb);
	const struct in6_addr *to = &ipv6_hdr(skb)->daddr;
	const struct inet6_dev *idev = rt->rt6i_idev;

	if (rt->dst.output != ip6_output ||
	    rt->rt6i_flags & (RTF_LOCAL | RTF_ANYCAST) ||
	    ipv6_addr_is_multicast(to) ||
	    dst_feature(&rt->dst, RTAX_FEATURE_ALLFRAG) || !idev ||
	    READ_ONCE(idev->cnf.disable_ipv6) || !is_plain(&rt->dst))
		return false;
	return to_neighbour(skb, __ipv6_neigh_lookup_noref(rt->dst.dev,
							   rt6_nexthop(rt, to)));
}
