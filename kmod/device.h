/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_DEVICE_H
#define VIADUCT_DEVICE_H

#include "session.h"

/*
 * Devices whose packets are taken at their ingress, before PRE_ROUTING. A device belongs to an owner,
 * and goes with it. RTNL and the namespace's mutex are held where a device is added or removed by name.
 */
int viaduct_device_add(struct viaduct_net *vn, struct viaduct_owner *owner,
		       int ifindex, struct netlink_ext_ack *extack);
int viaduct_device_del(struct viaduct_net *vn, struct viaduct_owner *owner,
		       int ifindex, struct netlink_ext_ack *extack);
/* All of an owner; the mutex held. */
void viaduct_devices_remove(struct viaduct_net *vn, struct viaduct_owner *owner);

int viaduct_device_init(void);
void viaduct_device_exit(void);

#endif
