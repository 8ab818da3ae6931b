/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_ATTRS_H
#define VIADUCT_ATTRS_H

#include <net/genetlink.h>

#include "session.h"

extern const struct nla_policy viaduct_policy[VIADUCT_A_MAX + 1];

/* One session as user space describes it. */
struct viaduct_session_request {
	struct nlattr *attrs[VIADUCT_S_MAX + 1];
	struct nlattr *leg[2][VIADUCT_L_MAX + 1];
	bool given[2];
};

int viaduct_parse_session(struct viaduct_session_request *request,
			  struct nlattr *nested, struct netlink_ext_ack *extack);
/* The local address of a leg of the request. */
int viaduct_parse_local(const struct viaduct_session_request *request, int leg,
			struct viaduct_addr *local,
			struct netlink_ext_ack *extack);
/* The terms of a leg whose local address is @local; an ERR_PTR. */
struct viaduct_terms *
viaduct_parse_terms(const struct viaduct_session_request *request, int leg,
		    const struct viaduct_addr *local,
		    struct netlink_ext_ack *extack);

/* The namespace's mutex held. */
int viaduct_fill_session(struct sk_buff *skb, struct viaduct_session *session,
			 bool counters);
int viaduct_fill_counters(struct sk_buff *skb, int attr,
			  struct viaduct_counters __percpu *counters);

#endif
