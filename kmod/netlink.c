// SPDX-License-Identifier: GPL-2.0
/* The commands of uapi/viaduct.h; those for rules are in rules.c. */
#include <linux/module.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include "attrs.h"
#include "device.h"
#include "event.h"
#include "forward.h"
#include "netlink.h"
#include "rules.h"
#include "steer.h"

#define GRACE_S_DEFAULT 60
#define LIST_MAX 256

static unsigned int sessions_max = 65536;
module_param(sessions_max, uint, 0644);
MODULE_PARM_DESC(sessions_max, "sessions a network namespace may have");

static struct genl_family viaduct_family;

/* Fits a session with its counters, twice. */
#define ANSWER_SIZE NLMSG_GOODSIZE

struct sk_buff *viaduct_answer_new(struct genl_info *info, u8 cmd, void **header)
{
	struct sk_buff *skb = nlmsg_new(ANSWER_SIZE, GFP_KERNEL);

	if (!skb)
		return NULL;
	*header = genlmsg_put_reply(skb, info, &viaduct_family, 0, cmd);
	if (!*header) {
		nlmsg_free(skb);
		return NULL;
	}
	return skb;
}

int viaduct_answer_send(struct sk_buff *skb, void *header, struct genl_info *info,
			int err)
{
	if (err) {
		nlmsg_free(skb);
		return err;
	}
	genlmsg_end(skb, header);
	return genlmsg_reply(skb, info);
}

static int cmd_info(struct sk_buff *request, struct genl_info *info)
{
	struct viaduct_net *vn = viaduct_net(genl_info_net(info));
	struct sk_buff *skb;
	void *header;
	int err;

	skb = viaduct_answer_new(info, VIADUCT_CMD_INFO, &header);
	if (!skb)
		return -ENOMEM;
	mutex_lock(&vn->lock);
	err = nla_put_u32(skb, VIADUCT_A_VERSION, VIADUCT_FAMILY_VERSION) ||
	      nla_put_u32(skb, VIADUCT_A_SESSIONS, vn->sessions) ||
	      nla_put_u32(skb, VIADUCT_A_SESSIONS_MAX, READ_ONCE(sessions_max)) ||
	      nla_put_u32(skb, VIADUCT_A_GENERATION, vn->generation) ||
	      nla_put_u32(skb, VIADUCT_A_RULES, vn->rules_count) ||
	      nla_put_u32(skb, VIADUCT_A_RULES_MAX, VIADUCT_RULES_MAX) ||
	      nla_put_u32(skb, VIADUCT_A_RULES_GENERATION, vn->rules_generation);
	mutex_unlock(&vn->lock);
	return viaduct_answer_send(skb, header, info, err ? -EMSGSIZE : 0);
}

static int attach(struct viaduct_net *vn, struct genl_info *info, u64 id,
		  u32 *sessions)
{
	struct viaduct_owner *mine, *owner;
	int err;

	if (vn->dying)
		return -ESHUTDOWN;
	mine = viaduct_owner_by_portid(vn, info->snd_portid);
	owner = viaduct_owner_find(vn, id);
	if (mine && mine != owner) {
		NL_SET_ERR_MSG(info->extack,
			       "this socket is attached with another OWNER");
		return -EBUSY;
	}
	if (owner && owner->portid && owner != mine) {
		NL_SET_ERR_MSG(info->extack,
			       "another socket is attached with this OWNER");
		return -EBUSY;
	}
	err = viaduct_hook(vn);
	if (err)
		return err;
	if (!owner) {
		owner = viaduct_owner_alloc(vn, id);
		if (IS_ERR(owner))
			return PTR_ERR(owner);
		viaduct_sweep_start(vn);
	}
	owner->portid = info->snd_portid;
	owner->grace_s = info->attrs[VIADUCT_A_GRACE_S] ?
				 nla_get_u32(info->attrs[VIADUCT_A_GRACE_S]) :
				 GRACE_S_DEFAULT;
	*sessions = owner->count;
	return 0;
}

static int cmd_attach(struct sk_buff *request, struct genl_info *info)
{
	struct viaduct_net *vn = viaduct_net(genl_info_net(info));
	struct nlattr *id = info->attrs[VIADUCT_A_OWNER];
	struct sk_buff *skb;
	void *header;
	u32 sessions;
	int err;

	if (!id || !nla_get_u64(id)) {
		NL_SET_ERR_MSG(info->extack, "OWNER must be given, and not 0");
		return -EINVAL;
	}
	skb = viaduct_answer_new(info, VIADUCT_CMD_ATTACH, &header);
	if (!skb)
		return -ENOMEM;
	mutex_lock(&vn->lock);
	err = attach(vn, info, nla_get_u64(id), &sessions);
	mutex_unlock(&vn->lock);
	if (!err && nla_put_u32(skb, VIADUCT_A_SESSIONS, sessions))
		err = -EMSGSIZE;
	return viaduct_answer_send(skb, header, info, err);
}

struct viaduct_owner *viaduct_sender(struct viaduct_net *vn,
				     struct genl_info *info)
{
	struct viaduct_owner *owner;

	owner = viaduct_owner_by_portid(vn, info->snd_portid);
	if (!owner)
		NL_SET_ERR_MSG(info->extack, "this socket has not attached");
	return owner;
}

static int cmd_detach(struct sk_buff *request, struct genl_info *info)
{
	struct viaduct_net *vn = viaduct_net(genl_info_net(info));
	struct viaduct_owner *owner;

	mutex_lock(&vn->lock);
	owner = viaduct_sender(vn, info);
	if (owner)
		viaduct_owner_remove(vn, owner);
	mutex_unlock(&vn->lock);
	return owner ? 0 : -EPERM;
}

/* A session that is not in the table yet; an ERR_PTR. */
static struct viaduct_session *session_new(struct viaduct_net *vn,
					   struct nlattr *nested,
					   struct netlink_ext_ack *extack)
{
	struct viaduct_session_request *request;
	struct viaduct_session *session = NULL;
	int i, err;

	request = kmalloc(sizeof(*request), GFP_KERNEL);
	if (!request)
		return ERR_PTR(-ENOMEM);
	err = viaduct_parse_session(request, nested, extack);
	if (err)
		goto out;
	session = viaduct_session_alloc(vn);
	if (!session) {
		err = -ENOMEM;
		goto out;
	}
	for (i = 0; i < 2 && !err; i++) {
		struct viaduct_leg *leg = &session->leg[i];
		struct viaduct_terms *terms;

		err = viaduct_parse_local(request, i, &leg->local, extack);
		if (err)
			break;
		terms = viaduct_parse_terms(request, i, &leg->local, extack);
		if (IS_ERR(terms))
			err = PTR_ERR(terms);
		else
			RCU_INIT_POINTER(leg->terms, terms);
	}
	if (request->attrs[VIADUCT_S_ID])
		session->id = nla_get_u64(request->attrs[VIADUCT_S_ID]);
	if (request->attrs[VIADUCT_S_IDLE_S])
		session->idle_s = nla_get_u32(request->attrs[VIADUCT_S_IDLE_S]);
out:
	kfree(request);
	if (err && session)
		viaduct_session_put(session);
	return err ? ERR_PTR(err) : session;
}

static int add_one(struct viaduct_net *vn, struct viaduct_owner *owner,
		   struct nlattr *nested, struct netlink_ext_ack *extack)
{
	struct viaduct_session *session;
	int err;

	if (vn->sessions >= READ_ONCE(sessions_max)) {
		NL_SET_ERR_MSG(extack, "no room for more sessions");
		return -ENOSPC;
	}
	session = session_new(vn, nested, extack);
	if (IS_ERR(session))
		return PTR_ERR(session);
	err = viaduct_session_insert(session, owner);
	if (err) {
		if (err == -EEXIST)
			NL_SET_ERR_MSG_ATTR(extack, nested,
					    "a local address and port is in use");
		viaduct_session_put(session);
	}
	return err;
}

static int cmd_add(struct sk_buff *request, struct genl_info *info)
{
	struct viaduct_net *vn = viaduct_net(genl_info_net(info));
	struct nlattr *list = info->attrs[VIADUCT_A_SESSION_LIST], *nested;
	struct viaduct_session *last, *previous;
	struct viaduct_owner *owner;
	int rest, added = 0, err = 0;

	if (!list) {
		NL_SET_ERR_MSG(info->extack, "SESSION_LIST must be given");
		return -EINVAL;
	}
	mutex_lock(&vn->lock);
	owner = viaduct_sender(vn, info);
	if (!owner) {
		mutex_unlock(&vn->lock);
		return -EPERM;
	}
	nla_for_each_nested(nested, list, rest) {
		if (added == LIST_MAX) {
			NL_SET_ERR_MSG_ATTR(info->extack, nested,
					    "too many sessions in one list");
			err = -E2BIG;
			break;
		}
		err = add_one(vn, owner, nested, info->extack);
		if (err)
			break;
		added++;
	}
	/* All or none: those of this message are the owner's last ones. */
	if (err) {
		list_for_each_entry_safe_reverse(last, previous,
						 &owner->sessions, of_owner) {
			if (added-- == 0)
				break;
			viaduct_session_remove(last);
		}
	}
	mutex_unlock(&vn->lock);
	return err;
}

/*
 * The session whose leg has the local address of the request's LEG_A; @swapped
 * if that is its second leg. The mutex held, so it stays.
 */
static struct viaduct_session *
session_named(struct viaduct_net *vn, struct viaduct_session_request *request,
	      struct genl_info *info, bool *swapped)
{
	struct nlattr *nested = info->attrs[VIADUCT_A_SESSION];
	struct viaduct_addr local;
	struct viaduct_leg *leg;
	int err;

	if (!nested) {
		NL_SET_ERR_MSG(info->extack, "SESSION must be given");
		return ERR_PTR(-EINVAL);
	}
	err = viaduct_parse_session(request, nested, info->extack);
	if (!err)
		err = viaduct_parse_local(request, 0, &local, info->extack);
	if (err)
		return ERR_PTR(err);
	rcu_read_lock();
	leg = viaduct_leg_find(vn, &local);
	rcu_read_unlock();
	if (!leg) {
		NL_SET_ERR_MSG(info->extack, "no session has this leg");
		return ERR_PTR(-ENOENT);
	}
	*swapped = leg->side == 1;
	return viaduct_leg_session(leg);
}

/* Whether the request brings more of a leg than its local address. */
static bool brings_terms(const struct viaduct_session_request *request, int leg)
{
	int i;

	for (i = VIADUCT_L_LOCAL_PORT + 1; i <= VIADUCT_L_MAX; i++)
		if (request->leg[leg][i])
			return true;
	return false;
}

static int set_legs(struct viaduct_session *session, bool swapped,
		    struct viaduct_session_request *request,
		    struct netlink_ext_ack *extack)
{
	struct viaduct_terms *terms[2] = {};
	int i, err = 0;

	for (i = 0; i < 2 && !err; i++) {
		struct viaduct_leg *leg = &session->leg[swapped ? 1 - i : i];
		struct viaduct_addr local;

		if (!request->given[i] || !brings_terms(request, i))
			continue;
		err = viaduct_parse_local(request, i, &local, extack);
		if (!err && !viaduct_addr_equal(&local, &leg->local)) {
			NL_SET_ERR_MSG(extack,
				       "the legs are not of one session");
			err = -EINVAL;
		}
		if (err)
			break;
		terms[i] = viaduct_parse_terms(request, i, &local, extack);
		if (IS_ERR(terms[i])) {
			err = PTR_ERR(terms[i]);
			terms[i] = NULL;
		}
	}
	for (i = 0; i < 2; i++) {
		if (err)
			viaduct_terms_free(terms[i]);
		else if (terms[i])
			viaduct_leg_replace(&session->leg[swapped ? 1 - i : i],
					    terms[i]);
	}
	return err;
}

static int set(struct viaduct_net *vn, struct viaduct_session_request *request,
	       struct genl_info *info)
{
	struct viaduct_session *session;
	bool swapped;
	int err;

	session = session_named(vn, request, info, &swapped);
	if (IS_ERR(session))
		return PTR_ERR(session);
	if (session->owner != viaduct_sender(vn, info))
		return -EPERM;
	err = set_legs(session, swapped, request, info->extack);
	if (!err && request->attrs[VIADUCT_S_IDLE_S])
		session->idle_s = nla_get_u32(request->attrs[VIADUCT_S_IDLE_S]);
	if (!err && request->attrs[VIADUCT_S_ID])
		session->id = nla_get_u64(request->attrs[VIADUCT_S_ID]);
	return err;
}

static int cmd_set(struct sk_buff *skb, struct genl_info *info)
{
	struct viaduct_net *vn = viaduct_net(genl_info_net(info));
	struct viaduct_session_request *request;
	int err;

	request = kmalloc(sizeof(*request), GFP_KERNEL);
	if (!request)
		return -ENOMEM;
	mutex_lock(&vn->lock);
	err = set(vn, request, info);
	mutex_unlock(&vn->lock);
	kfree(request);
	return err;
}

/* GET and DEL differ in what happens after the answer is written. */
static int show_one(struct genl_info *info, u8 cmd)
{
	struct viaduct_net *vn = viaduct_net(genl_info_net(info));
	struct viaduct_session_request *request;
	struct viaduct_session *session;
	struct sk_buff *skb;
	void *header;
	bool swapped;
	int err = 0;

	skb = viaduct_answer_new(info, cmd, &header);
	request = kmalloc(sizeof(*request), GFP_KERNEL);
	if (!skb || !request) {
		nlmsg_free(skb);
		kfree(request);
		return -ENOMEM;
	}
	mutex_lock(&vn->lock);
	session = session_named(vn, request, info, &swapped);
	if (IS_ERR(session))
		err = PTR_ERR(session);
	else if (cmd == VIADUCT_CMD_DEL && session->owner != viaduct_sender(vn, info))
		err = -EPERM;
	else
		err = viaduct_fill_session(skb, session, true);
	if (!err && cmd == VIADUCT_CMD_DEL)
		viaduct_session_remove(session);
	mutex_unlock(&vn->lock);
	kfree(request);
	return viaduct_answer_send(skb, header, info, err);
}

static int cmd_get(struct sk_buff *request, struct genl_info *info)
{
	return show_one(info, VIADUCT_CMD_GET);
}

static int cmd_del(struct sk_buff *request, struct genl_info *info)
{
	return show_one(info, VIADUCT_CMD_DEL);
}

void *viaduct_dump_header(struct sk_buff *skb, struct netlink_callback *cb,
			  u8 cmd)
{
	void *header;

	header = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq,
			     &viaduct_family, NLM_F_MULTI, cmd);
	if (header)
		genl_dump_check_consistent(cb, header);
	return header;
}

static int dump_one(struct sk_buff *skb, struct netlink_callback *cb,
		    struct viaduct_session *session)
{
	void *header = viaduct_dump_header(skb, cb, VIADUCT_CMD_GET);

	if (!header)
		return -EMSGSIZE;
	if (nla_put_u32(skb, VIADUCT_A_GENERATION, session->vn->generation) ||
	    viaduct_fill_session(skb, session, true)) {
		genlmsg_cancel(skb, header);
		return -EMSGSIZE;
	}
	genlmsg_end(skb, header);
	return 0;
}

/* Goes on where the last part ended, by count: cb->args[0] were shown. */
static int cmd_dump(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct viaduct_net *vn = viaduct_net(sock_net(cb->skb->sk));
	struct viaduct_session *session;
	struct viaduct_owner *owner;
	long at = 0;

	mutex_lock(&vn->lock);
	cb->seq = vn->generation + 1;	/* 0 would mean "never changes" */
	list_for_each_entry(owner, &vn->owners, list) {
		list_for_each_entry(session, &owner->sessions, of_owner) {
			if (at++ < cb->args[0])
				continue;
			if (dump_one(skb, cb, session))
				goto full;
			cb->args[0]++;
		}
	}
full:
	mutex_unlock(&vn->lock);
	return skb->len;
}

static int change_device(struct genl_info *info, u8 cmd)
{
	struct viaduct_net *vn = viaduct_net(genl_info_net(info));
	struct nlattr *index = info->attrs[VIADUCT_A_DEVICE];
	struct viaduct_owner *owner;
	int err = -EPERM;

	if (!index) {
		NL_SET_ERR_MSG(info->extack, "DEVICE must be given");
		return -EINVAL;
	}
	rtnl_lock();
	mutex_lock(&vn->lock);
	owner = viaduct_sender(vn, info);
	if (owner && cmd == VIADUCT_CMD_DEVICE_ADD)
		err = viaduct_device_add(vn, owner, nla_get_u32(index),
					 info->extack);
	else if (owner)
		err = viaduct_device_del(vn, owner, nla_get_u32(index),
					 info->extack);
	mutex_unlock(&vn->lock);
	rtnl_unlock();
	return err;
}

static int cmd_device_add(struct sk_buff *request, struct genl_info *info)
{
	return change_device(info, VIADUCT_CMD_DEVICE_ADD);
}

static int cmd_device_del(struct sk_buff *request, struct genl_info *info)
{
	return change_device(info, VIADUCT_CMD_DEVICE_DEL);
}

static void multicast(struct viaduct_net *vn, struct sk_buff *skb, void *header,
		      int err)
{
	if (err) {
		nlmsg_free(skb);
		return;
	}
	genlmsg_end(skb, header);
	/* Nobody listening is no error. */
	genlmsg_multicast_netns(&viaduct_family, vn->net, skb, 0, 0, GFP_KERNEL);
}

static struct sk_buff *event_new(u32 events, void **header)
{
	struct sk_buff *skb = nlmsg_new(ANSWER_SIZE, GFP_KERNEL);

	if (!skb)
		return NULL;
	*header = genlmsg_put(skb, 0, 0, &viaduct_family, 0, VIADUCT_CMD_EVENT);
	if (!*header || nla_put_u32(skb, VIADUCT_A_EVENT, events)) {
		nlmsg_free(skb);
		return NULL;
	}
	return skb;
}

void viaduct_tell_session(struct viaduct_session *session, u32 events,
			  bool counters)
{
	struct sk_buff *skb;
	void *header;

	skb = event_new(events, &header);
	if (skb)
		multicast(session->vn, skb, header,
			  viaduct_fill_session(skb, session, counters));
}

void viaduct_tell_owner(struct viaduct_net *vn, u64 owner, u32 events)
{
	struct sk_buff *skb;
	void *header;

	skb = event_new(events, &header);
	if (skb)
		multicast(vn, skb, header,
			  nla_put_u64_64bit(skb, VIADUCT_A_OWNER, owner,
					    VIADUCT_A_PAD));
}

static const struct genl_ops ops[] = {
	{ .cmd = VIADUCT_CMD_INFO, .doit = cmd_info, .flags = GENL_UNS_ADMIN_PERM },
	{ .cmd = VIADUCT_CMD_ATTACH, .doit = cmd_attach, .flags = GENL_UNS_ADMIN_PERM },
	{ .cmd = VIADUCT_CMD_DETACH, .doit = cmd_detach, .flags = GENL_UNS_ADMIN_PERM },
	{ .cmd = VIADUCT_CMD_ADD, .doit = cmd_add, .flags = GENL_UNS_ADMIN_PERM },
	{ .cmd = VIADUCT_CMD_SET, .doit = cmd_set, .flags = GENL_UNS_ADMIN_PERM },
	{ .cmd = VIADUCT_CMD_DEL, .doit = cmd_del, .flags = GENL_UNS_ADMIN_PERM },
	{ .cmd = VIADUCT_CMD_GET, .doit = cmd_get, .dumpit = cmd_dump,
	  .flags = GENL_UNS_ADMIN_PERM },
	{ .cmd = VIADUCT_CMD_DEVICE_ADD, .doit = cmd_device_add,
	  .flags = GENL_UNS_ADMIN_PERM },
	{ .cmd = VIADUCT_CMD_DEVICE_DEL, .doit = cmd_device_del,
	  .flags = GENL_UNS_ADMIN_PERM },
	{ .cmd = VIADUCT_CMD_RULE_ADD, .doit = viaduct_cmd_rule_add,
	  .flags = GENL_UNS_ADMIN_PERM },
	{ .cmd = VIADUCT_CMD_RULE_DEL, .doit = viaduct_cmd_rule_del,
	  .flags = GENL_UNS_ADMIN_PERM },
	{ .cmd = VIADUCT_CMD_RULE_GET, .doit = viaduct_cmd_rule_get,
	  .dumpit = viaduct_cmd_rule_dump, .flags = GENL_UNS_ADMIN_PERM },
};

static const struct genl_multicast_group groups[] = {
	{
		.name = VIADUCT_GROUP_EVENTS,
#ifdef GENL_MCAST_CAP_NET_ADMIN	/* newer kernels keep strangers out */
		.flags = GENL_MCAST_CAP_NET_ADMIN,
#endif
	},
};

static struct genl_family viaduct_family __ro_after_init = {
	.name = VIADUCT_FAMILY_NAME,
	.version = VIADUCT_FAMILY_VERSION,
	.maxattr = VIADUCT_A_MAX,
	.policy = viaduct_policy,
	.netnsok = true,
	.module = THIS_MODULE,
	.ops = ops,
	.n_ops = ARRAY_SIZE(ops),
	.resv_start_op = VIADUCT_CMD_MAX + 1,
	.mcgrps = groups,
	.n_mcgrps = ARRAY_SIZE(groups),
};

/* A socket was closed: its owner may come back within the grace time. */
static int socket_closed(struct notifier_block *block, unsigned long event,
			 void *data)
{
	const struct netlink_notify *closed = data;
	struct viaduct_owner *owner;
	struct viaduct_net *vn;

	if (event != NETLINK_URELEASE || closed->protocol != NETLINK_GENERIC ||
	    !closed->portid)
		return NOTIFY_DONE;
	vn = viaduct_net(closed->net);
	mutex_lock(&vn->lock);
	owner = viaduct_owner_by_portid(vn, closed->portid);
	if (owner) {
		owner->portid = 0;
		owner->gone = jiffies;
		viaduct_tell_owner(vn, owner->id, VIADUCT_EVENT_OWNER_GONE);
	}
	mutex_unlock(&vn->lock);
	return NOTIFY_DONE;
}

static struct notifier_block socket_notifier = {
	.notifier_call = socket_closed,
};

int viaduct_netlink_init(void)
{
	int err;

	err = genl_register_family(&viaduct_family);
	if (err)
		return err;
	err = netlink_register_notifier(&socket_notifier);
	if (err)
		genl_unregister_family(&viaduct_family);
	return err;
}

void viaduct_netlink_exit(void)
{
	genl_unregister_family(&viaduct_family);
	netlink_unregister_notifier(&socket_notifier);
}
