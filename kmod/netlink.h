/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_NETLINK_H
#define VIADUCT_NETLINK_H

#include "session.h"

int viaduct_netlink_init(void);
void viaduct_netlink_exit(void);

/* Multicast; the namespace's mutex held. Lost where nobody has room for it. */
void viaduct_tell_session(struct viaduct_session *session, u32 events,
			  bool counters);
void viaduct_tell_owner(struct viaduct_net *vn, u64 owner, u32 events);

#endif
