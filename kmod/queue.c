// SPDX-License-Identifier: GPL-2.0
/*
 * Packets on their way to another CPU. What is put here at PRE_ROUTING goes on
 * there from the same place, in a tasklet: as RPS does, but after the headers
 * were read, and for some packets only. A tasklet runs on one CPU at a time, so
 * order is kept; when its CPU goes offline the kernel runs it on another.
 */
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/netfilter_bridge.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <net/dst.h>
#include <net/ip.h>
#include <net/ipv6.h>

#include "forward.h"
#include "queue.h"

/* So many packets, then others have their turn; as one NAPI poll. */
#define BATCH 64

static unsigned int steer_queue = 1000;
module_param(steer_queue, uint, 0644);
MODULE_PARM_DESC(steer_queue, "packets that may wait for a CPU they are steered to");

struct viaduct_queue {
	struct sk_buff_head waiting;	/* its lock is that of `kicked` too */
	bool kicked;		/* the tasklet will run, or is running */
	struct sk_buff_head working;	/* the tasklet's own */
	struct tasklet_struct tasklet;
	call_single_data_t kick;
	struct viaduct_net *vn;
};

/* Behind what the IP layer keeps there. */
struct queued {
	union {
		struct inet_skb_parm v4;
		struct inet6_skb_parm v6;
	} ip;
	int (*okfn)(struct net *net, struct sock *sk, struct sk_buff *skb);
};

static struct queued *queued(struct sk_buff *skb)
{
	BUILD_BUG_ON(sizeof(struct queued) > sizeof(skb->cb));
	return (struct queued *)skb->cb;
}

/* The hooks behind ours; ours may have been taken off meanwhile. */
static unsigned int hooks_left_from(const struct nf_hook_entries *hooks)
{
	struct nf_hook_ops **ops = nf_hook_entries_get_hook_ops(hooks);
	unsigned int i;

	for (i = 0; i < hooks->num_hook_entries; i++) {
		if (viaduct_is_our_hook(ops[i]->hook))
			return i + 1;
		if (ops[i]->priority > VIADUCT_HOOK_PRIORITY)
			break;
	}
	return i;
}

/* The rest of PRE_ROUTING, then the IP layer. */
static void go_on(struct net *net, struct sk_buff *skb,
		  struct nf_hook_state *state)
{
	const struct nf_hook_entries *hooks;

	if (state->pf == NFPROTO_IPV4)
		hooks = rcu_dereference(net->nf.hooks_ipv4[NF_INET_PRE_ROUTING]);
	else
		hooks = rcu_dereference(net->nf.hooks_ipv6[NF_INET_PRE_ROUTING]);
	if (!hooks || nf_hook_slow(skb, state, hooks, hooks_left_from(hooks)) == 1)
		state->okfn(net, NULL, skb);
}

static void deliver(struct viaduct_net *vn, struct sk_buff *skb)
{
	struct net_device *dev = skb->dev;
	struct nf_hook_state state;
	u8 pf = skb->protocol == htons(ETH_P_IP) ? NFPROTO_IPV4 : NFPROTO_IPV6;
	unsigned int verdict;

	nf_hook_state_init(&state, NF_INET_PRE_ROUTING, pf, dev, NULL, NULL,
			   vn->net, queued(skb)->okfn);
	queued(skb)->okfn = NULL;
	rcu_read_lock();
	/* A device that is up now stays until the grace period is over. */
	if (!(READ_ONCE(dev->flags) & IFF_UP) || dev_net(dev) != vn->net) {
		kfree_skb(skb);
		goto out;
	}
	verdict = viaduct_take_moved(vn, skb, &state);
	if (verdict == NF_ACCEPT)
		go_on(vn->net, skb, &state);
	else if (verdict == NF_DROP)
		kfree_skb(skb);
out:
	rcu_read_unlock();
	dev_put(dev);
}

static void work(struct tasklet_struct *tasklet)
{
	struct viaduct_queue *queue = from_tasklet(queue, tasklet, tasklet);
	struct sk_buff *skb;
	int left = BATCH;

	while (left) {
		skb = __skb_dequeue(&queue->working);
		if (skb) {
			deliver(queue->vn, skb);
			left--;
			continue;
		}
		spin_lock(&queue->waiting.lock);
		if (skb_queue_empty(&queue->waiting)) {
			WRITE_ONCE(queue->kicked, false);
			spin_unlock(&queue->waiting.lock);
			return;
		}
		skb_queue_splice_tail_init(&queue->waiting, &queue->working);
		spin_unlock(&queue->waiting.lock);
	}
	tasklet_schedule(&queue->tasklet);
}

/* On the CPU, with interrupts off. */
static void kicked(void *info)
{
	struct viaduct_queue *queue = info;

	tasklet_schedule(&queue->tasklet);
}

bool viaduct_queue_busy(struct viaduct_net *vn, unsigned int cpu)
{
	return READ_ONCE(per_cpu_ptr(vn->queues, cpu)->kicked);
}

bool viaduct_queue_takes(const struct sk_buff *skb,
			 const struct nf_hook_state *state)
{
	if (skb->sk || !skb->dev || skb->dev != state->in ||
	    netif_is_l3_master(state->in))
		return false;
#if IS_ENABLED(CONFIG_BRIDGE_NETFILTER)
	if (nf_bridge_info_exists(skb))
		return false;
#endif
	return skb->protocol == (state->pf == NFPROTO_IPV4 ? htons(ETH_P_IP) :
							     htons(ETH_P_IPV6));
}

bool viaduct_queue_put(struct viaduct_net *vn, struct sk_buff *skb,
		       const struct nf_hook_state *state, unsigned int cpu)
{
	struct viaduct_queue *queue = per_cpu_ptr(vn->queues, cpu);
	bool kick;

	/* A route that is not held is gone with this read-side section. */
	if (skb_dst(skb) && !skb_dst_force(skb))
		return false;
	spin_lock(&queue->waiting.lock);
	if (skb_queue_len(&queue->waiting) >= READ_ONCE(steer_queue)) {
		spin_unlock(&queue->waiting.lock);
		return false;
	}
	dev_hold(skb->dev);
	queued(skb)->okfn = state->okfn;
	__skb_queue_tail(&queue->waiting, skb);
	kick = !queue->kicked;
	WRITE_ONCE(queue->kicked, true);
	spin_unlock(&queue->waiting.lock);
	/* It has gone offline since it was chosen: then here. */
	if (kick && smp_call_function_single_async(cpu, &queue->kick))
		tasklet_schedule(&queue->tasklet);
	return true;
}

int viaduct_queues_init(struct viaduct_net *vn)
{
	struct viaduct_queue __percpu *queues;
	int cpu;

	if (vn->queues)
		return 0;
	queues = alloc_percpu_gfp(struct viaduct_queue, GFP_KERNEL_ACCOUNT);
	if (!queues)
		return -ENOMEM;
	for_each_possible_cpu(cpu) {
		struct viaduct_queue *queue = per_cpu_ptr(queues, cpu);

		skb_queue_head_init(&queue->waiting);
		__skb_queue_head_init(&queue->working);
		tasklet_setup(&queue->tasklet, work);
		INIT_CSD(&queue->kick, kicked, queue);
		queue->vn = vn;
	}
	vn->queues = queues;
	return 0;
}

void viaduct_queues_drain(struct viaduct_net *vn)
{
	int cpu;

	if (!vn->queues)
		return;
	for_each_possible_cpu(cpu) {
		while (viaduct_queue_busy(vn, cpu))
			schedule_timeout_uninterruptible(1);
		/* It may still be at its end. */
		tasklet_kill(&per_cpu_ptr(vn->queues, cpu)->tasklet);
	}
}

void viaduct_queues_exit(struct viaduct_net *vn)
{
	free_percpu(vn->queues);
	vn->queues = NULL;
}
