// SPDX-License-Identifier: GPL-2.0
/* Attributes to sessions and back. uapi/viaduct.h says what they mean. */
#include <linux/jiffies.h>
#include <linux/slab.h>

#include "attrs.h"
#include "core/rewrite.h"
#include "rules.h"

#define DAY_S 86400
#define LEARN_MS_MAX 60000
#define LARGEST_PAYLOAD 2048	/* a bucket smaller than a packet never lets it by */

/* Not const: older kernels' policies point to them without it. */
static struct netlink_range_validation up_to_a_day = { 0, DAY_S };
static struct netlink_range_validation grace = { 1, DAY_S };
static struct netlink_range_validation learn_ms = { 0, LEARN_MS_MAX };
static struct netlink_range_validation pps_burst = { 1, 1 << 20 };
static struct netlink_range_validation bps_burst = { LARGEST_PAYLOAD,
						     1 << 26 };

static const struct nla_policy leg_policy[VIADUCT_L_MAX + 1] = {
	[VIADUCT_L_LOCAL_ADDR] = NLA_POLICY_RANGE(NLA_BINARY, 4, 16),
	[VIADUCT_L_LOCAL_PORT] = NLA_POLICY_MIN(NLA_U16, 1),
	[VIADUCT_L_PEER_ADDR] = NLA_POLICY_RANGE(NLA_BINARY, 4, 16),
	[VIADUCT_L_PEER_PORT] = NLA_POLICY_MIN(NLA_U16, 1),
	[VIADUCT_L_FLAGS] = NLA_POLICY_MASK(NLA_U32, VIADUCT_LEG_F_ALL),
	[VIADUCT_L_WINDOW_MS] = NLA_POLICY_FULL_RANGE(NLA_U32, &learn_ms),
	[VIADUCT_L_SETTLE_MS] = NLA_POLICY_FULL_RANGE(NLA_U32, &learn_ms),
	[VIADUCT_L_MIN_RANK] = NLA_POLICY_RANGE(NLA_U8, VIADUCT_RANK_ANY,
						VIADUCT_RANK_EXACT),
	[VIADUCT_L_FORWARD] = NLA_POLICY_MASK(NLA_U32, VIADUCT_CLASS_ALL),
	[VIADUCT_L_UP] = NLA_POLICY_MASK(NLA_U32, VIADUCT_CLASS_ALL),
	[VIADUCT_L_PAYLOAD_TYPES] = NLA_POLICY_EXACT_LEN(16),
	[VIADUCT_L_MAX_SIZE] = { .type = NLA_U16 },
	[VIADUCT_L_DSCP] = NLA_POLICY_MAX(NLA_U8, 63),
	[VIADUCT_L_PRIORITY] = { .type = NLA_U32 },
	[VIADUCT_L_PPS] = { .type = NLA_U32 },
	[VIADUCT_L_PPS_BURST] = NLA_POLICY_FULL_RANGE(NLA_U32, &pps_burst),
	[VIADUCT_L_BPS] = { .type = NLA_U32 },
	[VIADUCT_L_BPS_BURST] = NLA_POLICY_FULL_RANGE(NLA_U32, &bps_burst),
};

static const struct nla_policy session_policy[VIADUCT_S_MAX + 1] = {
	[VIADUCT_S_ID] = { .type = NLA_U64 },
	[VIADUCT_S_IDLE_S] = NLA_POLICY_FULL_RANGE(NLA_U32, &up_to_a_day),
	[VIADUCT_S_LEG_A] = NLA_POLICY_NESTED(leg_policy),
	[VIADUCT_S_LEG_B] = NLA_POLICY_NESTED(leg_policy),
};

const struct nla_policy viaduct_policy[VIADUCT_A_MAX + 1] = {
	[VIADUCT_A_OWNER] = { .type = NLA_U64 },
	[VIADUCT_A_GRACE_S] = NLA_POLICY_FULL_RANGE(NLA_U32, &grace),
	[VIADUCT_A_SESSION_LIST] = NLA_POLICY_NESTED_ARRAY(session_policy),
	[VIADUCT_A_SESSION] = NLA_POLICY_NESTED(session_policy),
	[VIADUCT_A_DEVICE] = NLA_POLICY_MIN(NLA_U32, 1),
	[VIADUCT_A_RULE] = NLA_POLICY_NESTED(viaduct_rule_policy),
};

int viaduct_parse_session(struct viaduct_session_request *request,
			  struct nlattr *nested, struct netlink_ext_ack *extack)
{
	static const int leg_attr[2] = { VIADUCT_S_LEG_A, VIADUCT_S_LEG_B };
	int i, err;

	memset(request, 0, sizeof(*request));
	err = nla_parse_nested(request->attrs, VIADUCT_S_MAX, nested,
			       session_policy, extack);
	for (i = 0; i < 2 && !err; i++) {
		struct nlattr *leg = request->attrs[leg_attr[i]];

		if (!leg)
			continue;
		request->given[i] = true;
		err = nla_parse_nested(request->leg[i], VIADUCT_L_MAX, leg,
				       leg_policy, extack);
	}
	return err;
}

static int parse_addr(struct nlattr *ip, struct nlattr *port,
		      struct viaduct_addr *addr, struct netlink_ext_ack *extack)
{
	memset(addr, 0, sizeof(*addr));
	if (nla_len(ip) != 4 && nla_len(ip) != 16) {
		NL_SET_ERR_MSG_ATTR(extack, ip,
				    "an address has 4 or 16 octets");
		return -EINVAL;
	}
	addr->family = nla_len(ip) == 4 ? VIADUCT_V4 : VIADUCT_V6;
	memcpy(addr->ip, nla_data(ip), nla_len(ip));
	addr->port = htons(nla_get_u16(port));
	if (viaduct_addr_scope(addr) == VIADUCT_SCOPE_UNUSABLE) {
		NL_SET_ERR_MSG_ATTR(extack, ip,
				    "not the address of one host");
		return -EINVAL;
	}
	return 0;
}

int viaduct_parse_local(const struct viaduct_session_request *request, int leg,
			struct viaduct_addr *local,
			struct netlink_ext_ack *extack)
{
	struct nlattr *const *attrs = request->leg[leg];

	if (!attrs[VIADUCT_L_LOCAL_ADDR] || !attrs[VIADUCT_L_LOCAL_PORT]) {
		if (leg)
			NL_SET_ERR_MSG(extack,
				       "LEG_B wants LOCAL_ADDR and LOCAL_PORT");
		else
			NL_SET_ERR_MSG(extack,
				       "LEG_A wants LOCAL_ADDR and LOCAL_PORT");
		return -EINVAL;
	}
	return parse_addr(attrs[VIADUCT_L_LOCAL_ADDR],
			  attrs[VIADUCT_L_LOCAL_PORT], local, extack);
}

static u32 u32_or(struct nlattr *attr, u32 otherwise)
{
	return attr ? nla_get_u32(attr) : otherwise;
}

static int parse_peer(struct nlattr *const *attrs,
		      const struct viaduct_addr *local,
		      struct viaduct_latch_terms *peer,
		      struct netlink_ext_ack *extack)
{
	struct nlattr *ip = attrs[VIADUCT_L_PEER_ADDR];
	int err;

	if (!ip != !attrs[VIADUCT_L_PEER_PORT]) {
		NL_SET_ERR_MSG(extack, "PEER_ADDR and PEER_PORT go together");
		return -EINVAL;
	}
	if (!ip)
		return 0;
	err = parse_addr(ip, attrs[VIADUCT_L_PEER_PORT], &peer->signalled,
			 extack);
	if (err)
		return err;
	if (peer->signalled.family != local->family) {
		NL_SET_ERR_MSG_ATTR(extack, ip,
				    "peer and local address: two families");
		return -EINVAL;
	}
	if (viaduct_addr_scope(&peer->signalled) == VIADUCT_SCOPE_LOOPBACK &&
	    !(peer->flags & VIADUCT_LEG_F_LOOPBACK)) {
		NL_SET_ERR_MSG_ATTR(extack, ip,
				    "a loopback peer wants LEG_F_LOOPBACK");
		return -EINVAL;
	}
	return 0;
}

static void parse_learning(struct nlattr *const *attrs,
			   struct viaduct_latch_terms *peer)
{
	peer->window_ms = u32_or(attrs[VIADUCT_L_WINDOW_MS], 0);
	peer->settle_ms = u32_or(attrs[VIADUCT_L_SETTLE_MS], peer->window_ms);
	peer->min_rank = attrs[VIADUCT_L_MIN_RANK] ?
				 nla_get_u8(attrs[VIADUCT_L_MIN_RANK]) :
				 VIADUCT_RANK_ANY;
}

static int parse_rules(struct nlattr *const *attrs, struct viaduct_rules *rules,
		       struct netlink_ext_ack *extack)
{
	rules->flags = u32_or(attrs[VIADUCT_L_FLAGS], 0);
	rules->forward = u32_or(attrs[VIADUCT_L_FORWARD],
				VIADUCT_CLASS_RTP | VIADUCT_CLASS_RTCP);
	rules->up = u32_or(attrs[VIADUCT_L_UP], 0);
	if (rules->forward & rules->up) {
		NL_SET_ERR_MSG_ATTR(extack, attrs[VIADUCT_L_UP],
				    "a class is in FORWARD and in UP");
		return -EINVAL;
	}
	if (attrs[VIADUCT_L_MAX_SIZE])
		rules->max_size = nla_get_u16(attrs[VIADUCT_L_MAX_SIZE]);
	memset(rules->payload_types, 0xff, sizeof(rules->payload_types));
	if (attrs[VIADUCT_L_PAYLOAD_TYPES])
		memcpy(rules->payload_types,
		       nla_data(attrs[VIADUCT_L_PAYLOAD_TYPES]),
		       sizeof(rules->payload_types));
	return 0;
}

static void parse_budgets(struct nlattr *const *attrs,
			  struct viaduct_terms *terms)
{
	terms->pps_limit = u32_or(attrs[VIADUCT_L_PPS], 0);
	terms->pps_burst = u32_or(attrs[VIADUCT_L_PPS_BURST],
				  clamp(terms->pps_limit / 4, 16U, 1U << 20));
	viaduct_rate_set(&terms->pps, terms->pps_limit, terms->pps_burst);
	terms->bps_limit = u32_or(attrs[VIADUCT_L_BPS], 0);
	terms->bps_burst = u32_or(attrs[VIADUCT_L_BPS_BURST],
				  clamp(terms->bps_limit / 4, 65536U, 1U << 26));
	viaduct_rate_set(&terms->bps, terms->bps_limit, terms->bps_burst);
}

struct viaduct_terms *
viaduct_parse_terms(const struct viaduct_session_request *request, int leg,
		    const struct viaduct_addr *local,
		    struct netlink_ext_ack *extack)
{
	struct nlattr *const *attrs = request->leg[leg];
	struct viaduct_terms *terms;
	int err;

	terms = viaduct_terms_alloc();
	if (!terms)
		return ERR_PTR(-ENOMEM);
	err = parse_rules(attrs, &terms->rules, extack);
	terms->peer.flags = terms->rules.flags;
	if (!err)
		err = parse_peer(attrs, local, &terms->peer, extack);
	if (err) {
		viaduct_terms_free(terms);
		return ERR_PTR(err);
	}
	parse_learning(attrs, &terms->peer);
	parse_budgets(attrs, terms);
	terms->dscp = attrs[VIADUCT_L_DSCP] ?
			      nla_get_u8(attrs[VIADUCT_L_DSCP]) :
			      VIADUCT_DSCP_COPY;
	terms->priority = u32_or(attrs[VIADUCT_L_PRIORITY], 0);
	viaduct_latch_init(&terms->latch, &terms->peer,
			   ktime_to_ms(ktime_get()));
	return terms;
}

static int fill_addr(struct sk_buff *skb, int ip_attr, int port_attr,
		     const struct viaduct_addr *addr)
{
	if (!viaduct_addr_is_set(addr))
		return 0;
	return nla_put(skb, ip_attr, addr->family == VIADUCT_V4 ? 4 : 16,
		       addr->ip) ||
	       nla_put_u16(skb, port_attr, ntohs(addr->port));
}

int viaduct_fill_counters(struct sk_buff *skb, int attr,
			  struct viaduct_counters __percpu *counters)
{
	u64 sum[VIADUCT_C_MAX + 1];
	struct nlattr *nest;
	int i;

	nest = nla_nest_start(skb, attr);
	if (!nest)
		return -EMSGSIZE;
	viaduct_counters_sum(counters, sum);
	for (i = VIADUCT_C_PAD + 1; i <= VIADUCT_C_MAX; i++)
		if (nla_put_u64_64bit(skb, i, sum[i], VIADUCT_C_PAD))
			return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

static int fill_learned(struct sk_buff *skb, struct viaduct_leg *leg,
			const struct viaduct_latch *latch)
{
	const struct viaduct_addr *current_peer;
	u8 slot;

	current_peer = viaduct_latch_target(latch, &slot);
	if (slot != VIADUCT_SLOT_SIGNALLED &&
	    fill_addr(skb, VIADUCT_L_LEARNED_ADDR, VIADUCT_L_LEARNED_PORT,
		      current_peer))
		return -EMSGSIZE;
	if (nla_put_u8(skb, VIADUCT_L_LOCKED, smp_load_acquire(&latch->locked)) ||
	    nla_put_u8(skb, VIADUCT_L_RANK, READ_ONCE(latch->best_rank)))
		return -EMSGSIZE;
	if (!READ_ONCE(leg->heard))
		return 0;
	return nla_put_u64_64bit(skb, VIADUCT_L_SEEN_MS,
				 jiffies_to_msecs(jiffies - READ_ONCE(leg->seen)),
				 VIADUCT_L_PAD) ||
	       nla_put_u32(skb, VIADUCT_L_SSRC, READ_ONCE(leg->ssrc)) ||
	       nla_put_u8(skb, VIADUCT_L_TCLASS_SEEN,
			  READ_ONCE(leg->tclass_seen));
}

static int fill_terms(struct sk_buff *skb, const struct viaduct_terms *terms)
{
	const struct viaduct_rules *rules = &terms->rules;

	return nla_put_u32(skb, VIADUCT_L_FLAGS, rules->flags) ||
	       nla_put_u32(skb, VIADUCT_L_WINDOW_MS, terms->peer.window_ms) ||
	       nla_put_u32(skb, VIADUCT_L_SETTLE_MS, terms->peer.settle_ms) ||
	       nla_put_u8(skb, VIADUCT_L_MIN_RANK, terms->peer.min_rank) ||
	       nla_put_u32(skb, VIADUCT_L_FORWARD, rules->forward) ||
	       nla_put_u32(skb, VIADUCT_L_UP, rules->up) ||
	       nla_put(skb, VIADUCT_L_PAYLOAD_TYPES,
		       sizeof(rules->payload_types), rules->payload_types) ||
	       nla_put_u16(skb, VIADUCT_L_MAX_SIZE, rules->max_size) ||
	       (terms->dscp != VIADUCT_DSCP_COPY &&
		nla_put_u8(skb, VIADUCT_L_DSCP, terms->dscp)) ||
	       nla_put_u32(skb, VIADUCT_L_PRIORITY, terms->priority) ||
	       nla_put_u32(skb, VIADUCT_L_PPS, terms->pps_limit) ||
	       nla_put_u32(skb, VIADUCT_L_PPS_BURST, terms->pps_burst) ||
	       nla_put_u32(skb, VIADUCT_L_BPS, terms->bps_limit) ||
	       nla_put_u32(skb, VIADUCT_L_BPS_BURST, terms->bps_burst);
}

static int fill_leg(struct sk_buff *skb, int attr, struct viaduct_leg *leg,
		    bool counters)
{
	struct viaduct_net *vn = viaduct_leg_session(leg)->vn;
	struct viaduct_terms *terms;
	struct nlattr *nest;

	terms = rcu_dereference_protected(leg->terms,
					  lockdep_is_held(&vn->lock));
	nest = nla_nest_start(skb, attr);
	if (!nest ||
	    fill_addr(skb, VIADUCT_L_LOCAL_ADDR, VIADUCT_L_LOCAL_PORT,
		      &leg->local) ||
	    fill_addr(skb, VIADUCT_L_PEER_ADDR, VIADUCT_L_PEER_PORT,
		      &terms->peer.signalled) ||
	    fill_terms(skb, terms) || fill_learned(skb, leg, &terms->latch))
		return -EMSGSIZE;
	if (counters &&
	    viaduct_fill_counters(skb, VIADUCT_L_COUNTERS, leg->counters))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

int viaduct_fill_session(struct sk_buff *skb, struct viaduct_session *session,
			 bool counters)
{
	struct nlattr *nest;

	nest = nla_nest_start(skb, VIADUCT_A_SESSION);
	if (!nest ||
	    nla_put_u64_64bit(skb, VIADUCT_S_ID, session->id, VIADUCT_S_PAD) ||
	    nla_put_u64_64bit(skb, VIADUCT_S_OWNER, session->owner->id,
			      VIADUCT_S_PAD) ||
	    nla_put_u32(skb, VIADUCT_S_IDLE_S, session->idle_s) ||
	    fill_leg(skb, VIADUCT_S_LEG_A, &session->leg[0], counters) ||
	    fill_leg(skb, VIADUCT_S_LEG_B, &session->leg[1], counters))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}
