/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_DIRECT_H
#define VIADUCT_DIRECT_H

#include <linux/skbuff.h>

/*
 * Hands @skb, which has its headers and its route and is not too large for it, to the device it leaves by,
 * past LOCAL_OUT, POST_ROUTING and the IP layer's counters: the way the kernel's flow table goes with what
 * it takes at a device's ingress.
 * In softirq. False, and @skb is as before: more than that is to be done to it, so the IP layer has to send it.
 */
bool viaduct_send_direct_v4(struct sk_buff *skb);
bool viaduct_send_direct_v6(struct sk_buff *skb);

#endif
