// SPDX-License-Identifier: GPL-2.0
/* Loading, unloading, and the network namespaces. Begin with uapi/viaduct.h. */
#include <linux/genetlink.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <net/genetlink.h>
#include <net/netns/generic.h>

#include "consult.h"
#include "device.h"
#include "event.h"
#include "forward.h"
#include "netlink.h"
#include "queue.h"

/* What one /24 or /64 may send that is not from a settled peer. */
#define PREFIX_PPS 2000
#define PREFIX_BURST 4000

static unsigned int viaduct_net_id __read_mostly;

struct viaduct_net *viaduct_net(struct net *net)
{
	return net_generic(net, viaduct_net_id);
}

static int __net_init net_init(struct net *net)
{
	struct viaduct_net *vn = viaduct_net(net);
	int err;

	vn->net = net;
	mutex_init(&vn->lock);
	INIT_LIST_HEAD(&vn->owners);
	INIT_LIST_HEAD(&vn->devices);
	INIT_LIST_HEAD(&vn->rules);
	viaduct_event_init(vn);
	viaduct_rate_set(&vn->prefix_rate, PREFIX_PPS, PREFIX_BURST);
	vn->prefix_full_at = kvcalloc(VIADUCT_PREFIX_BUCKETS, sizeof(u64),
				      GFP_KERNEL_ACCOUNT);
	if (!vn->prefix_full_at)
		return -ENOMEM;
	err = viaduct_table_init(vn);
	if (err)
		kvfree(vn->prefix_full_at);
	return err;
}

/*
 * Takes no more packets. An RCU grace period passes between this and
 * net_exit(), and before the last counters are told.
 */
static void __net_exit net_pre_exit(struct net *net)
{
	struct viaduct_net *vn = viaduct_net(net);
	struct viaduct_owner *owner;

	mutex_lock(&vn->lock);
	vn->dying = true;
	list_for_each_entry(owner, &vn->owners, list)
		viaduct_devices_remove(vn, owner);
	viaduct_unhook(vn);
	mutex_unlock(&vn->lock);
}

static void __net_exit net_exit(struct net *net)
{
	struct viaduct_net *vn = viaduct_net(net);
	struct viaduct_owner *owner, *next;

	viaduct_queues_drain(vn);
	viaduct_event_exit(vn);
	mutex_lock(&vn->lock);
	list_for_each_entry_safe(owner, next, &vn->owners, list)
		viaduct_owner_remove(vn, owner);
	mutex_unlock(&vn->lock);
	viaduct_queues_exit(vn);
	viaduct_table_exit(vn);
	kvfree(vn->prefix_full_at);
}

static struct pernet_operations net_ops = {
	.init = net_init,
	.pre_exit = net_pre_exit,
	.exit = net_exit,
	.id = &viaduct_net_id,
	.size = sizeof(struct viaduct_net),
};

static int __init viaduct_init(void)
{
	int err;

	err = register_pernet_subsys(&net_ops);
	if (err)
		return err;
	err = viaduct_device_init();
	if (err)
		goto err_net;
	err = viaduct_netlink_init();
	if (err)
		goto err_device;
	viaduct_consult_init();
#ifdef VIADUCT_LEAKY
	pr_warn("viaduct: built to leak memory, for tests only\n");
#endif
	pr_info("viaduct: media relay, interface version %d\n",
		VIADUCT_FAMILY_VERSION);
	return 0;

err_device:
	viaduct_device_exit();
err_net:
	unregister_pernet_subsys(&net_ops);
	return err;
}

/*
 * While the family is still there: who owns sessions is told what they have
 * counted to the last packet. A namespace that comes now has no sessions yet.
 */
static void __exit say_farewell(void)
{
	struct net *net;

	down_read(&net_rwsem);
	for_each_net(net)
		net_pre_exit(net);
	synchronize_net();
	for_each_net(net)
		viaduct_queues_drain(viaduct_net(net));
	for_each_net(net)
		viaduct_event_last(viaduct_net(net));
	up_read(&net_rwsem);
}

static void __exit viaduct_exit(void)
{
	say_farewell();
	viaduct_netlink_exit();
	viaduct_device_exit();
	unregister_pernet_subsys(&net_ops);
	rcu_barrier();	/* sessions, terms and rules on their way to be freed */
}

module_init(viaduct_init);
module_exit(viaduct_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Viaduct media relay: forwards RTP between two legs");
MODULE_VERSION("0.1.0");
MODULE_ALIAS_GENL_FAMILY(VIADUCT_FAMILY_NAME);
