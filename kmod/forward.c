// SPDX-License-Identifier: GPL-2.0
/*
 * The way of a packet: found, judged, rewritten in place, sent. Runs under RCU
 * in softirq. A packet of a settled leg takes no lock and allocates nothing,
 * unless it is shared with a tap or came in pieces.
 */
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/jhash.h>
#include <linux/ktime.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6.h>
#include <linux/random.h>
#include <linux/udp.h>

#include "event.h"
#include "forward.h"
#include "steer.h"
#include "transmit.h"

static u32 prefix_seed __read_mostly;

static bool prefix_take(struct viaduct_net *vn, const struct viaduct_addr *src)
{
	u32 prefix[2], bucket;

	viaduct_addr_prefix(src, prefix);
	bucket = jhash_3words(prefix[0], prefix[1], src->family, prefix_seed) %
		 VIADUCT_PREFIX_BUCKETS;
	return viaduct_rate_take(&vn->prefix_rate, &vn->prefix_full_at[bucket],
				 ktime_get_ns(), 1);
}

static u64 now_ms(void)
{
	return ktime_to_ms(ktime_get());
}

/*
 * Asks a latch that is not locked, or one whose peer may move. Never waits: a
 * packet that finds another CPU learning here is treated like any other that
 * comes before the lock.
 */
static enum viaduct_source learn(struct viaduct_net *vn, struct viaduct_leg *leg,
				 struct viaduct_terms *terms,
				 const struct viaduct_received *rx,
				 const struct viaduct_facts *facts)
{
	struct viaduct_latch *latch = &terms->latch;
	u32 learned_from = terms->rules.forward & VIADUCT_CLASS_RTP ?
				   VIADUCT_CLASS_RTP : VIADUCT_CLASS_RTCP;
	bool counts = facts->class == learned_from, was_locked, moved;
	bool own = viaduct_leg_find(vn, &rx->src);
	enum viaduct_source source;

	if (!spin_trylock(&terms->learning))
		return VIADUCT_SOURCE_CANDIDATE;
	was_locked = latch->locked;
	source = viaduct_latch_observe(latch, now_ms(), &rx->src, counts, own);
	moved = source == VIADUCT_SOURCE_FOREIGN && was_locked &&
		facts->class == VIADUCT_CLASS_RTP &&
		viaduct_latch_handover(latch, &rx->src, facts->ssrc, facts->seq,
				       own);
	spin_unlock(&terms->learning);
	if (moved) {
		viaduct_event(viaduct_leg_session(leg), VIADUCT_EVENT_MOVED);
		return VIADUCT_SOURCE_PEER;
	}
	if (!was_locked && latch->locked &&
	    latch->active == VIADUCT_SLOT_LEARNED)
		viaduct_event(viaduct_leg_session(leg), VIADUCT_EVENT_LEARNED);
	return source;
}

/* Whether the source is the peer; counts what is not. */
static bool source_passes(struct viaduct_net *vn, struct viaduct_leg *leg,
			  struct viaduct_terms *terms,
			  const struct viaduct_received *rx,
			  const struct viaduct_facts *facts)
{
	enum viaduct_source source;

	source = viaduct_latch_check(&terms->latch, &rx->src);
	if (source == VIADUCT_SOURCE_UNSETTLED ||
	    (source == VIADUCT_SOURCE_FOREIGN &&
	     terms->rules.flags & VIADUCT_LEG_F_HANDOVER)) {
		if (!viaduct_addr_equal(&rx->src, &terms->peer.signalled) &&
		    !prefix_take(vn, &rx->src)) {
			viaduct_count(leg->counters, VIADUCT_C_PREFIX, 1);
			return false;
		}
		source = learn(vn, leg, terms, rx, facts);
	}
	if (likely(source == VIADUCT_SOURCE_PEER))
		return true;
	if (source == VIADUCT_SOURCE_CANDIDATE) {
		viaduct_count(leg->counters, VIADUCT_C_CANDIDATE, 1);
		return false;
	}
	viaduct_count(leg->counters, VIADUCT_C_FOREIGN, 1);
	viaduct_event(viaduct_leg_session(leg), VIADUCT_EVENT_FOREIGN);
	return false;
}

static bool budget_passes(struct viaduct_leg *leg, struct viaduct_terms *terms,
			  u32 payload)
{
	u64 now;

	if (!terms->pps.cost && !terms->bps.cost)
		return true;
	now = ktime_get_ns();
	if (viaduct_rate_take(&terms->pps, &terms->pps_full_at, now, 1) &&
	    viaduct_rate_take(&terms->bps, &terms->bps_full_at, now, payload))
		return true;
	viaduct_count(leg->counters, VIADUCT_C_LIMITED, 1);
	viaduct_event(viaduct_leg_session(leg), VIADUCT_EVENT_LIMITED);
	return false;
}

/* Locks the leg that is sent to, if its time has come and nobody sends there. */
static void settle(struct viaduct_leg *leg, struct viaduct_terms *terms)
{
	bool learned = false;

	if (likely(READ_ONCE(terms->latch.locked)))
		return;
	if (!viaduct_latch_due(&terms->latch, now_ms()) ||
	    !spin_trylock(&terms->learning))
		return;
	if (viaduct_latch_settle(&terms->latch, now_ms()))
		learned = terms->latch.active == VIADUCT_SLOT_LEARNED;
	spin_unlock(&terms->learning);
	if (learned)
		viaduct_event(viaduct_leg_session(leg), VIADUCT_EVENT_LEARNED);
}

static void note_relayed(struct viaduct_leg *leg, struct viaduct_terms *terms,
			 const struct viaduct_received *rx,
			 const struct viaduct_facts *facts)
{
	struct viaduct_counters *here = this_cpu_ptr(leg->counters);
	unsigned long now = jiffies;

	/* Written only when they change: their cache line is shared. */
	if (READ_ONCE(leg->seen) != now)
		WRITE_ONCE(leg->seen, now);
	if (READ_ONCE(leg->tclass_seen) != rx->hop.tclass)
		WRITE_ONCE(leg->tclass_seen, rx->hop.tclass);
	if (facts->class == VIADUCT_CLASS_RTP) {
		if (READ_ONCE(leg->ssrc) != facts->ssrc)
			WRITE_ONCE(leg->ssrc, facts->ssrc);
		viaduct_latch_heard(&terms->latch, facts->ssrc, facts->seq);
	}
	u64_stats_update_begin(&here->sync);
	if (facts->class == VIADUCT_CLASS_RTP)
		u64_stats_inc(&here->value[VIADUCT_C_RTP]);
	else if (facts->class == VIADUCT_CLASS_RTCP)
		u64_stats_inc(&here->value[VIADUCT_C_RTCP]);
	u64_stats_inc(&here->value[VIADUCT_C_PACKETS]);
	u64_stats_add(&here->value[VIADUCT_C_OCTETS],
		      rx->udp_len - sizeof(struct udphdr));
	u64_stats_update_end(&here->sync);
	if (unlikely(!READ_ONCE(leg->heard))) {
		WRITE_ONCE(leg->heard, true);
		viaduct_event(viaduct_leg_session(leg), VIADUCT_EVENT_FIRST);
	}
}

static const enum viaduct_counter fault_counter[] = {
	[VIADUCT_FAULT_CLASS] = VIADUCT_C_CLASS,
	[VIADUCT_FAULT_MALFORMED] = VIADUCT_C_MALFORMED,
	[VIADUCT_FAULT_SIZE] = VIADUCT_C_SIZE,
	[VIADUCT_FAULT_PAYLOAD_TYPE] = VIADUCT_C_PAYLOAD_TYPE,
};

static unsigned int pass_up(struct viaduct_net *vn, struct viaduct_leg *leg,
			    const struct viaduct_addr *src)
{
	if (prefix_take(vn, src)) {
		viaduct_count(leg->counters, VIADUCT_C_UP, 1);
		return NF_ACCEPT;
	}
	viaduct_count(leg->counters, VIADUCT_C_UP_LIMITED, 1);
	return NF_DROP;
}

/* A whole UDP datagram to a leg. */
static unsigned int relay(struct viaduct_net *vn, struct viaduct_leg *leg,
			  struct sk_buff *skb, struct viaduct_received *rx)
{
	struct viaduct_terms *terms = rcu_dereference(leg->terms);
	struct viaduct_leg *out = viaduct_leg_other(leg);
	u32 payload = rx->udp_len - sizeof(struct udphdr);
	struct viaduct_terms *out_terms;
	struct viaduct_facts facts;
	enum viaduct_fault fault;
	enum viaduct_counter failed;

	fault = viaduct_screen(&terms->rules,
			       skb->data + rx->udp_at + sizeof(struct udphdr),
			       payload, &facts);
	if (fault != VIADUCT_FAULT_NONE) {
		viaduct_count(leg->counters, fault_counter[fault], 1);
		return NF_DROP;
	}
	if (!(terms->rules.forward & facts.class)) {
		/* Counted once, where it leaves us. */
		return rx->at_ingress ? NF_ACCEPT :
					pass_up(vn, leg, &rx->src);
	}
	if (!source_passes(vn, leg, terms, rx, &facts) ||
	    !budget_passes(leg, terms, payload))
		return NF_DROP;

	out_terms = rcu_dereference(out->terms);
	settle(out, out_terms);
	failed = viaduct_transmit(vn->net, skb, rx, &out->local, out_terms);
	if (failed) {
		viaduct_count(leg->counters, failed, 1);
		return NF_DROP;
	}
	note_relayed(leg, terms, rx, &facts);
	return NF_STOLEN;
}

/* A UDP datagram to a leg, which ends here or is user space's. */
static unsigned int receive_udp(struct viaduct_net *vn, struct viaduct_leg *leg,
				struct sk_buff *skb, struct viaduct_received *rx)
{
	const struct udphdr *udp;
	struct udphdr copy;

	udp = skb_header_pointer(skb, rx->udp_at, sizeof(copy), &copy);
	if (!udp || skb_is_gso(skb))
		return NF_ACCEPT;
	rx->udp_len = ntohs(udp->len);
	if (rx->udp_len < sizeof(*udp) || rx->udp_len > skb->len - rx->udp_at) {
		viaduct_count(leg->counters, VIADUCT_C_MALFORMED, 1);
		return NF_DROP;
	}
	if (skb_linearize(skb)) {
		viaduct_count(leg->counters, VIADUCT_C_NO_MEMORY, 1);
		return NF_DROP;
	}
	return relay(vn, leg, skb, rx);
}

/* No verdict: the packet is treated here. */
#define GO_ON (NF_MAX_VERDICT + 1)

static unsigned int steer(struct viaduct_net *vn, const struct viaduct_leg *leg,
			  struct sk_buff *skb, struct viaduct_received *rx,
			  const struct nf_hook_state *state)
{
	switch (viaduct_steer(vn, skb, state, leg, rx)) {
	case VIADUCT_PLACE_LATER:
		return NF_ACCEPT;
	case VIADUCT_PLACE_MOVED:
		return NF_STOLEN;
	case VIADUCT_PLACE_FULL:
		return NF_DROP;
	case VIADUCT_PLACE_HERE:
		break;
	}
	return GO_ON;
}

/* UDP or TCP at rx->udp_at of a packet to this host. Both addresses are filled in. */
static unsigned int receive(struct viaduct_net *vn,
			    const struct nf_hook_state *state,
			    struct sk_buff *skb, struct viaduct_received *rx)
{
	struct viaduct_leg *leg = NULL;
	unsigned int verdict;
	const __be16 *ports;
	__be16 copy[2];

	/* Both protocols begin with them. */
	ports = skb_header_pointer(skb, rx->udp_at, sizeof(copy), copy);
	if (!ports)
		return NF_ACCEPT;
	rx->src.port = ports[0];
	rx->dst.port = ports[1];
	if (rx->protocol == VIADUCT_PROTO_UDP)
		leg = viaduct_leg_find(vn, &rx->dst);
	verdict = list_empty(&vn->rules) ? GO_ON : steer(vn, leg, skb, rx, state);
	if (verdict == GO_ON)
		verdict = leg ? receive_udp(vn, leg, skb, rx) : NF_ACCEPT;
	/* What goes on from ingress comes to PRE_ROUTING yet. */
	if (rx->rule && !rx->moved && !(rx->at_ingress && verdict == NF_ACCEPT))
		viaduct_steer_count(rx);
	return verdict;
}

/* One of VIADUCT_PROTO_*; 0 where no rule and no session has to do with it. */
static u32 protocol_of(const struct viaduct_net *vn, u8 protocol)
{
	if (protocol == IPPROTO_UDP)
		return VIADUCT_PROTO_UDP;
	if (protocol == IPPROTO_TCP && !list_empty(&vn->rules))
		return VIADUCT_PROTO_TCP;
	return 0;
}

bool viaduct_is_martian(const struct net_device *dev, const struct viaduct_addr *src)
{
	enum viaduct_scope scope = viaduct_ip_scope(src);

	return scope == VIADUCT_SCOPE_UNUSABLE ||
	       (scope == VIADUCT_SCOPE_LOOPBACK && !(dev && dev->flags & IFF_LOOPBACK));
}

static unsigned int take_v4(struct viaduct_net *vn, struct sk_buff *skb,
			    const struct nf_hook_state *state, bool moved)
{
	const struct iphdr *ip = ip_hdr(skb);
	struct viaduct_received rx = {
		.protocol = protocol_of(vn, ip->protocol),
		.moved = moved,
	};

	if (!rx.protocol || skb->pkt_type != PACKET_HOST || ip_is_fragment(ip))
		return NF_ACCEPT;
	rx.src.family = VIADUCT_V4;
	rx.dst.family = VIADUCT_V4;
	rx.src.ip[0] = ip->saddr;
	rx.dst.ip[0] = ip->daddr;
	if (viaduct_is_martian(skb->dev, &rx.src))
		return NF_ACCEPT;
	rx.at_ingress = state->pf == NFPROTO_NETDEV;
	rx.udp_at = ip->ihl * 4;
	rx.hop.tclass = ip->tos;
	rx.hop.ttl = ip->ttl;
	rx.hop.dont_fragment = ip->frag_off & htons(IP_DF);
	return receive(vn, state, skb, &rx);
}

static unsigned int take_v6(struct viaduct_net *vn, struct sk_buff *skb,
			    const struct nf_hook_state *state, bool moved)
{
	const struct ipv6hdr *ip = ipv6_hdr(skb);
	struct viaduct_received rx = {
		.protocol = protocol_of(vn, ip->nexthdr),
		.moved = moved,
	};

	if (!rx.protocol || skb->pkt_type != PACKET_HOST)
		return NF_ACCEPT;
	rx.src.family = VIADUCT_V6;
	rx.dst.family = VIADUCT_V6;
	memcpy(rx.src.ip, &ip->saddr, sizeof(rx.src.ip));
	memcpy(rx.dst.ip, &ip->daddr, sizeof(rx.dst.ip));
	if (viaduct_is_martian(skb->dev, &rx.src))
		return NF_ACCEPT;
	rx.at_ingress = state->pf == NFPROTO_NETDEV;
	rx.udp_at = sizeof(*ip);
	rx.hop.tclass = ipv6_get_dsfield(ip);
	rx.hop.ttl = ip->hop_limit;
	return receive(vn, state, skb, &rx);
}

unsigned int viaduct_take_v4(void *priv, struct sk_buff *skb,
			     const struct nf_hook_state *state)
{
	return take_v4(priv ?: viaduct_net(state->net), skb, state, false);
}

unsigned int viaduct_take_v6(void *priv, struct sk_buff *skb,
			     const struct nf_hook_state *state)
{
	return take_v6(priv ?: viaduct_net(state->net), skb, state, false);
}

unsigned int viaduct_take_moved(struct viaduct_net *vn, struct sk_buff *skb,
				const struct nf_hook_state *state)
{
	return state->pf == NFPROTO_IPV4 ? take_v4(vn, skb, state, true) :
					   take_v6(vn, skb, state, true);
}

bool viaduct_is_our_hook(nf_hookfn *hook)
{
	return hook == viaduct_take_v4 || hook == viaduct_take_v6;
}

static const struct nf_hook_ops hooks[] = {
	{
		.hook = viaduct_take_v4,
		.pf = NFPROTO_IPV4,
		.hooknum = NF_INET_PRE_ROUTING,
		.priority = VIADUCT_HOOK_PRIORITY,
	},
	{
		.hook = viaduct_take_v6,
		.pf = NFPROTO_IPV6,
		.hooknum = NF_INET_PRE_ROUTING,
		.priority = VIADUCT_HOOK_PRIORITY,
	},
};

int viaduct_hook(struct viaduct_net *vn)
{
	int err;

	if (vn->hooked)
		return 0;
	get_random_once(&prefix_seed, sizeof(prefix_seed));
	err = nf_register_net_hooks(vn->net, hooks, ARRAY_SIZE(hooks));
	if (!err)
		vn->hooked = true;
	return err;
}

void viaduct_unhook(struct viaduct_net *vn)
{
	if (vn->hooked)
		nf_unregister_net_hooks(vn->net, hooks, ARRAY_SIZE(hooks));
	vn->hooked = false;
}
