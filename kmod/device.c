// SPDX-License-Identifier: GPL-2.0
/*
 * Packets taken at the ingress of a device, without the way through the IP layer. What the IP layer
 * would have refused is left to it, so that it is refused and counted there.
 */
#include <linux/if_vlan.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netdevice.h>
#include <linux/netfilter_netdev.h>
#include <linux/rtnetlink.h>
#include <linux/slab.h>

#include "device.h"
#include "forward.h"

#define DEVICES_MAX 64

struct viaduct_device {
	struct list_head list;		/* of the namespace */
	struct viaduct_owner *owner;
	struct nf_hook_ops ops;
};

#ifdef CONFIG_NETFILTER_INGRESS
/* Whole, and without octets behind its end (RFC 791 3.1). */
static bool is_sound_v4(struct sk_buff *skb)
{
	const struct iphdr *ip;
	u32 len;

	if (!pskb_may_pull(skb, sizeof(*ip)))
		return false;
	ip = ip_hdr(skb);
	if (ip->version != 4 || ip->ihl < 5 || !pskb_may_pull(skb, ip->ihl * 4))
		return false;
	ip = ip_hdr(skb);
	len = ntohs(ip->tot_len);
	if (ip_fast_csum((const u8 *)ip, ip->ihl) || len > skb->len ||
	    len < ip->ihl * 4)
		return false;
	return !pskb_trim_rcsum(skb, len);
}

/* Likewise (RFC 8200 3); what has no length in its header is none of ours. */
static bool is_sound_v6(struct sk_buff *skb)
{
	const struct ipv6hdr *ip;
	u32 len;

	if (!pskb_may_pull(skb, sizeof(*ip)))
		return false;
	ip = ipv6_hdr(skb);
	len = ntohs(ip->payload_len);
	if (ip->version != 6 || !len || len > skb->len - sizeof(*ip))
		return false;
	return !pskb_trim_rcsum(skb, sizeof(*ip) + len);
}

static unsigned int hook_ingress(void *priv, struct sk_buff *skb,
				 const struct nf_hook_state *state)
{
	/* A packet that a tap holds too, or one for a VLAN, is taken later. */
	if (skb->pkt_type != PACKET_HOST || skb_shared(skb) ||
	    skb_vlan_tag_present(skb))
		return NF_ACCEPT;
	if (skb->protocol == htons(ETH_P_IP))
		return is_sound_v4(skb) ? viaduct_take_v4(priv, skb, state) :
					  NF_ACCEPT;
	if (skb->protocol == htons(ETH_P_IPV6))
		return is_sound_v6(skb) ? viaduct_take_v6(priv, skb, state) :
					  NF_ACCEPT;
	return NF_ACCEPT;
}

static int hook(struct viaduct_net *vn, struct viaduct_device *device,
		struct net_device *dev)
{
	device->ops.hook = hook_ingress;
	device->ops.priv = vn;
	device->ops.pf = NFPROTO_NETDEV;
	device->ops.hooknum = NF_NETDEV_INGRESS;
	device->ops.dev = dev;
	return nf_register_net_hook(vn->net, &device->ops);
}
#else
static int hook(struct viaduct_net *vn, struct viaduct_device *device,
		struct net_device *dev)
{
	return -EOPNOTSUPP;
}
#endif

static struct viaduct_device *find(struct viaduct_net *vn, int ifindex)
{
	struct viaduct_device *device;

	list_for_each_entry(device, &vn->devices, list)
		if (device->ops.dev->ifindex == ifindex)
			return device;
	return NULL;
}

static void remove(struct viaduct_net *vn, struct viaduct_device *device)
{
	nf_unregister_net_hook(vn->net, &device->ops);
	list_del(&device->list);
	vn->devices_count--;
	kfree(device);
}

int viaduct_device_add(struct viaduct_net *vn, struct viaduct_owner *owner,
		       int ifindex, struct netlink_ext_ack *extack)
{
	struct net_device *dev = __dev_get_by_index(vn->net, ifindex);
	struct viaduct_device *device;
	int err;

	if (!dev) {
		NL_SET_ERR_MSG(extack, "there is no such DEVICE");
		return -ENODEV;
	}
	if (find(vn, ifindex)) {
		NL_SET_ERR_MSG(extack, "the DEVICE has been added already");
		return -EEXIST;
	}
	if (vn->devices_count >= DEVICES_MAX) {
		NL_SET_ERR_MSG(extack, "no room for more devices");
		return -ENOSPC;
	}
	device = kzalloc(sizeof(*device), GFP_KERNEL_ACCOUNT);
	if (!device)
		return -ENOMEM;
	device->owner = owner;
	err = hook(vn, device, dev);
	if (err) {
		kfree(device);
		return err;
	}
	list_add_tail(&device->list, &vn->devices);
	vn->devices_count++;
	return 0;
}

int viaduct_device_del(struct viaduct_net *vn, struct viaduct_owner *owner,
		       int ifindex, struct netlink_ext_ack *extack)
{
	struct viaduct_device *device = find(vn, ifindex);

	if (!device) {
		NL_SET_ERR_MSG(extack, "the DEVICE has not been added");
		return -ENODEV;
	}
	if (device->owner != owner)
		return -EPERM;
	remove(vn, device);
	return 0;
}

void viaduct_devices_remove(struct viaduct_net *vn, struct viaduct_owner *owner)
{
	struct viaduct_device *device, *next;

	list_for_each_entry_safe(device, next, &vn->devices, list)
		if (device->owner == owner)
			remove(vn, device);
}

/* A device that is gone, or moves to another namespace. Under RTNL. */
static int device_gone(struct notifier_block *block, unsigned long event,
		       void *data)
{
	struct net_device *dev = netdev_notifier_info_to_dev(data);
	struct viaduct_device *device;
	struct viaduct_net *vn;

	if (event != NETDEV_UNREGISTER)
		return NOTIFY_DONE;
	vn = viaduct_net(dev_net(dev));
	mutex_lock(&vn->lock);
	device = find(vn, dev->ifindex);
	if (device)
		remove(vn, device);
	mutex_unlock(&vn->lock);
	return NOTIFY_DONE;
}

static struct notifier_block device_notifier = {
	.notifier_call = device_gone,
};

int viaduct_device_init(void)
{
	return register_netdevice_notifier(&device_notifier);
}

void viaduct_device_exit(void)
{
	unregister_netdevice_notifier(&device_notifier);
}
