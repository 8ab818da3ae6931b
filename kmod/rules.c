// SPDX-License-Identifier: GPL-2.0
/* The commands for steering rules. uapi/viaduct.h says what they mean. */
#include <linux/netlink.h>

#include "netlink.h"
#include "rules.h"
#include "steer.h"

#define QUEUE_MAX (VIADUCT_QUEUE_ANY - 1)

const struct nla_policy viaduct_rule_policy[VIADUCT_R_MAX + 1] = {
	[VIADUCT_R_ID] = { .type = NLA_U32 },
	[VIADUCT_R_CLASS] = NLA_POLICY_RANGE(NLA_U8, VIADUCT_STEER_SIP,
					     VIADUCT_STEER_RTP),
	[VIADUCT_R_PROTOCOLS] = NLA_POLICY_MASK(NLA_U32, VIADUCT_PROTO_ALL),
	[VIADUCT_R_ADDR] = NLA_POLICY_RANGE(NLA_BINARY, 4, 16),
	[VIADUCT_R_PORT_FIRST] = NLA_POLICY_MIN(NLA_U16, 1),
	[VIADUCT_R_PORT_LAST] = NLA_POLICY_MIN(NLA_U16, 1),
	[VIADUCT_R_CPUS] = NLA_POLICY_RANGE(NLA_BINARY, 1,
					    VIADUCT_CPU_OCTETS_MAX),
	[VIADUCT_R_PRIORITY] = { .type = NLA_U32 },
	[VIADUCT_R_MARK] = { .type = NLA_U32 },
	[VIADUCT_R_QUEUE] = { .type = NLA_U16 },
};

static int parse_ports(struct nlattr *const *attrs, struct viaduct_steer *steer,
		       struct netlink_ext_ack *extack)
{
	struct nlattr *first = attrs[VIADUCT_R_PORT_FIRST];
	struct nlattr *last = attrs[VIADUCT_R_PORT_LAST];

	if (!first && steer->class == VIADUCT_STEER_SIP) {
		NL_SET_ERR_MSG(extack, "class SIP wants PORT_FIRST");
		return -EINVAL;
	}
	steer->port_first = first ? nla_get_u16(first) : 1;
	if (last)
		steer->port_last = nla_get_u16(last);
	else
		steer->port_last = first ? steer->port_first : 65535;
	if (steer->port_last < steer->port_first) {
		NL_SET_ERR_MSG_ATTR(extack, last,
				    "PORT_LAST is less than PORT_FIRST");
		return -EINVAL;
	}
	return 0;
}

static int parse_addr(struct nlattr *ip, struct viaduct_addr *addr,
		      struct netlink_ext_ack *extack)
{
	struct viaduct_addr any_port = {};

	if (!ip)
		return 0;
	if (nla_len(ip) != 4 && nla_len(ip) != 16) {
		NL_SET_ERR_MSG_ATTR(extack, ip,
				    "an address has 4 or 16 octets");
		return -EINVAL;
	}
	any_port.family = nla_len(ip) == 4 ? VIADUCT_V4 : VIADUCT_V6;
	memcpy(any_port.ip, nla_data(ip), nla_len(ip));
	any_port.port = htons(1);
	if (viaduct_addr_scope(&any_port) == VIADUCT_SCOPE_UNUSABLE) {
		NL_SET_ERR_MSG_ATTR(extack, ip,
				    "not the address of one host");
		return -EINVAL;
	}
	*addr = any_port;
	addr->port = 0;
	return 0;
}

static int parse_match(struct nlattr *const *attrs, struct viaduct_steer *steer,
		       struct netlink_ext_ack *extack)
{
	struct nlattr *protocols = attrs[VIADUCT_R_PROTOCOLS];
	int err;

	if (!attrs[VIADUCT_R_CLASS]) {
		NL_SET_ERR_MSG(extack, "CLASS must be given");
		return -EINVAL;
	}
	steer->class = nla_get_u8(attrs[VIADUCT_R_CLASS]);
	steer->protocols = protocols ? nla_get_u32(protocols) :
				       VIADUCT_PROTO_UDP;
	if (!steer->protocols ||
	    (steer->class == VIADUCT_STEER_RTP &&
	     steer->protocols != VIADUCT_PROTO_UDP)) {
		NL_SET_ERR_MSG_ATTR(extack, protocols,
				    "no protocol, or RTP not over UDP");
		return -EINVAL;
	}
	err = parse_ports(attrs, steer, extack);
	if (err)
		return err;
	return parse_addr(attrs[VIADUCT_R_ADDR], &steer->addr, extack);
}

static int parse_cpus(struct nlattr *cpus, struct viaduct_steer *steer,
		      struct netlink_ext_ack *extack)
{
	if (!cpus)
		return 0;
	switch (viaduct_steer_cpus(steer, nla_data(cpus), nla_len(cpus),
				   nr_cpu_ids)) {
	case VIADUCT_MASK_OK:
		return 0;
	case VIADUCT_MASK_RANGE:
		NL_SET_ERR_MSG_ATTR(extack, cpus,
				    "a CPU this machine cannot have");
		return -ERANGE;
	case VIADUCT_MASK_MANY:
		NL_SET_ERR_MSG_ATTR(extack, cpus, "too many CPUs in one rule");
		return -E2BIG;
	case VIADUCT_MASK_EMPTY:
		break;
	}
	NL_SET_ERR_MSG_ATTR(extack, cpus, "CPUS without a CPU");
	return -EINVAL;
}

static int parse_actions(struct nlattr *const *attrs, struct viaduct_steer *steer,
			 struct netlink_ext_ack *extack)
{
	struct nlattr *queue = attrs[VIADUCT_R_QUEUE];

	steer->queue = VIADUCT_QUEUE_ANY;
	if (attrs[VIADUCT_R_PRIORITY]) {
		steer->has_priority = true;
		steer->priority = nla_get_u32(attrs[VIADUCT_R_PRIORITY]);
	}
	if (attrs[VIADUCT_R_MARK]) {
		steer->has_mark = true;
		steer->mark = nla_get_u32(attrs[VIADUCT_R_MARK]);
	}
	if (queue) {
		steer->queue = nla_get_u16(queue);
		if (steer->class != VIADUCT_STEER_RTP) {
			NL_SET_ERR_MSG_ATTR(extack, queue,
					    "QUEUE is for class RTP");
			return -EINVAL;
		}
		if (steer->queue > QUEUE_MAX) {
			NL_SET_ERR_MSG_ATTR(extack, queue, "no such QUEUE");
			return -ERANGE;
		}
	}
	if (!steer->has_priority && !steer->has_mark && !queue &&
	    !attrs[VIADUCT_R_CPUS]) {
		NL_SET_ERR_MSG(extack, "the rule does nothing");
		return -EINVAL;
	}
	return parse_cpus(attrs[VIADUCT_R_CPUS], steer, extack);
}

/* The attributes of the request's RULE, which has an ID. */
static int parse_rule(struct genl_info *info, struct nlattr **attrs)
{
	struct nlattr *nested = info->attrs[VIADUCT_A_RULE];
	int err;

	if (!nested) {
		NL_SET_ERR_MSG(info->extack, "RULE must be given");
		return -EINVAL;
	}
	err = nla_parse_nested(attrs, VIADUCT_R_MAX, nested,
			       viaduct_rule_policy, info->extack);
	if (!err && !attrs[VIADUCT_R_ID]) {
		NL_SET_ERR_MSG_ATTR(info->extack, nested,
				    "the rule's ID must be given");
		err = -EINVAL;
	}
	return err;
}

static struct viaduct_rule *rule_new(struct genl_info *info)
{
	struct nlattr *attrs[VIADUCT_R_MAX + 1];
	struct viaduct_rule *rule;
	int err;

	err = parse_rule(info, attrs);
	if (err)
		return ERR_PTR(err);
	rule = viaduct_rule_alloc();
	if (!rule)
		return ERR_PTR(-ENOMEM);
	rule->steer.id = nla_get_u32(attrs[VIADUCT_R_ID]);
	err = parse_match(attrs, &rule->steer, info->extack);
	if (!err)
		err = parse_actions(attrs, &rule->steer, info->extack);
	if (err) {
		viaduct_rule_free(rule);
		return ERR_PTR(err);
	}
	return rule;
}

static int insert(struct viaduct_net *vn, struct viaduct_rule *rule,
		  struct genl_info *info)
{
	struct viaduct_owner *owner = viaduct_sender(vn, info);

	if (!owner)
		return -EPERM;
	if (viaduct_rule_find(vn, rule->steer.id)) {
		NL_SET_ERR_MSG(info->extack, "a rule has this ID");
		return -EEXIST;
	}
	if (vn->rules_count >= VIADUCT_RULES_MAX) {
		NL_SET_ERR_MSG(info->extack, "no room for more rules");
		return -ENOSPC;
	}
	return viaduct_rule_insert(vn, rule, owner);
}

int viaduct_cmd_rule_add(struct sk_buff *request, struct genl_info *info)
{
	struct viaduct_net *vn = viaduct_net(genl_info_net(info));
	struct viaduct_rule *rule;
	int err;

	rule = rule_new(info);
	if (IS_ERR(rule))
		return PTR_ERR(rule);
	mutex_lock(&vn->lock);
	err = insert(vn, rule, info);
	mutex_unlock(&vn->lock);
	if (err)
		viaduct_rule_free(rule);
	return err;
}

static int fill_match(struct sk_buff *skb, const struct viaduct_steer *steer)
{
	const struct viaduct_addr *addr = &steer->addr;

	return nla_put_u8(skb, VIADUCT_R_CLASS, steer->class) ||
	       nla_put_u32(skb, VIADUCT_R_PROTOCOLS, steer->protocols) ||
	       (viaduct_addr_is_set(addr) &&
		nla_put(skb, VIADUCT_R_ADDR, addr->family == VIADUCT_V4 ? 4 : 16,
			addr->ip)) ||
	       nla_put_u16(skb, VIADUCT_R_PORT_FIRST, steer->port_first) ||
	       nla_put_u16(skb, VIADUCT_R_PORT_LAST, steer->port_last);
}

static int fill_actions(struct sk_buff *skb, const struct viaduct_steer *steer)
{
	u8 mask[VIADUCT_CPU_OCTETS_MAX];
	u32 octets = viaduct_steer_mask(steer, mask);

	return (octets && nla_put(skb, VIADUCT_R_CPUS, octets, mask)) ||
	       (steer->has_priority &&
		nla_put_u32(skb, VIADUCT_R_PRIORITY, steer->priority)) ||
	       (steer->has_mark &&
		nla_put_u32(skb, VIADUCT_R_MARK, steer->mark)) ||
	       (steer->queue != VIADUCT_QUEUE_ANY &&
		nla_put_u16(skb, VIADUCT_R_QUEUE, steer->queue));
}

static int fill_counters(struct sk_buff *skb, const struct viaduct_rule *rule)
{
	u64 sum[VIADUCT_RC_MAX + 1];
	struct nlattr *nest;
	int i;

	nest = nla_nest_start(skb, VIADUCT_R_COUNTERS);
	if (!nest)
		return -EMSGSIZE;
	viaduct_rule_sum(rule, sum);
	for (i = VIADUCT_RC_PAD + 1; i <= VIADUCT_RC_MAX; i++)
		if (nla_put_u64_64bit(skb, i, sum[i], VIADUCT_RC_PAD))
			return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

static int fill_rule(struct sk_buff *skb, const struct viaduct_rule *rule)
{
	struct nlattr *nest;

	nest = nla_nest_start(skb, VIADUCT_A_RULE);
	if (!nest || nla_put_u32(skb, VIADUCT_R_ID, rule->steer.id) ||
	    nla_put_u64_64bit(skb, VIADUCT_R_OWNER, rule->owner->id,
			      VIADUCT_R_PAD) ||
	    fill_match(skb, &rule->steer) || fill_actions(skb, &rule->steer) ||
	    fill_counters(skb, rule))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

/* GET and DEL differ in what happens after the answer is written. */
static int show_one(struct genl_info *info, u8 cmd)
{
	struct viaduct_net *vn = viaduct_net(genl_info_net(info));
	struct nlattr *attrs[VIADUCT_R_MAX + 1];
	struct viaduct_rule *rule;
	struct sk_buff *skb;
	void *header;
	int err;

	err = parse_rule(info, attrs);
	if (err)
		return err;
	skb = viaduct_answer_new(info, cmd, &header);
	if (!skb)
		return -ENOMEM;
	mutex_lock(&vn->lock);
	rule = viaduct_rule_find(vn, nla_get_u32(attrs[VIADUCT_R_ID]));
	if (!rule) {
		NL_SET_ERR_MSG(info->extack, "no rule has this ID");
		err = -ENOENT;
	} else if (cmd == VIADUCT_CMD_RULE_DEL &&
		   rule->owner != viaduct_sender(vn, info)) {
		err = -EPERM;
	} else {
		err = fill_rule(skb, rule);
	}
	if (!err && cmd == VIADUCT_CMD_RULE_DEL)
		viaduct_rule_remove(vn, rule);
	mutex_unlock(&vn->lock);
	return viaduct_answer_send(skb, header, info, err);
}

int viaduct_cmd_rule_get(struct sk_buff *request, struct genl_info *info)
{
	return show_one(info, VIADUCT_CMD_RULE_GET);
}

int viaduct_cmd_rule_del(struct sk_buff *request, struct genl_info *info)
{
	return show_one(info, VIADUCT_CMD_RULE_DEL);
}

static int dump_one(struct sk_buff *skb, struct netlink_callback *cb,
		    struct viaduct_net *vn, const struct viaduct_rule *rule)
{
	void *header = viaduct_dump_header(skb, cb, VIADUCT_CMD_RULE_GET);

	if (!header)
		return -EMSGSIZE;
	if (nla_put_u32(skb, VIADUCT_A_RULES_GENERATION, vn->rules_generation) ||
	    fill_rule(skb, rule)) {
		genlmsg_cancel(skb, header);
		return -EMSGSIZE;
	}
	genlmsg_end(skb, header);
	return 0;
}

/* Goes on where the last part ended, by count: cb->args[0] were shown. */
int viaduct_cmd_rule_dump(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct viaduct_net *vn = viaduct_net(sock_net(cb->skb->sk));
	struct viaduct_rule *rule;
	long at = 0;

	mutex_lock(&vn->lock);
	cb->seq = vn->rules_generation + 1;	/* 0 would mean "never changes" */
	list_for_each_entry(rule, &vn->rules, list) {
		if (at++ < cb->args[0])
			continue;
		if (dump_one(skb, cb, vn, rule))
			break;
		cb->args[0]++;
	}
	mutex_unlock(&vn->lock);
	return skb->len;
}
