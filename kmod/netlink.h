/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_NETLINK_H
#define VIADUCT_NETLINK_H

#include <net/genetlink.h>

#include "session.h"

struct sk_buff *viaduct_answer_new(struct genl_info *info, u8 cmd, void **header);
/* Frees @skb where there is an error. */
int viaduct_answer_send(struct sk_buff *skb, void *header, struct genl_info *info,
			int err);
/* Begins a message of a dump, whose cb->seq is set; NULL where there is no room. */
void *viaduct_dump_header(struct sk_buff *skb, struct netlink_callback *cb,
			  u8 cmd);
/* The owner the sending socket is attached with; the mutex held. */
struct viaduct_owner *viaduct_sender(struct viaduct_net *vn,
				     struct genl_info *info);

int viaduct_netlink_init(void);
void viaduct_netlink_exit(void);

/* Multicast; the namespace's mutex held. Lost where nobody has room for it. */
void viaduct_tell_session(struct viaduct_session *session, u32 events,
			  bool counters);
void viaduct_tell_owner(struct viaduct_net *vn, u64 owner, u32 events);

#endif
