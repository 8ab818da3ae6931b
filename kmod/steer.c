// SPDX-License-Identifier: GPL-2.0
/* Steering rules: kept under the namespace's mutex, asked under RCU. */
#include <linux/random.h>
#include <linux/slab.h>

#include "queue.h"
#include "steer.h"

static u32 flow_seed __read_mostly;

static void count(const struct viaduct_rule *rule, enum viaduct_rule_counter which)
{
	struct viaduct_rule_counters *here = this_cpu_ptr(rule->counters);

	u64_stats_update_begin(&here->sync);
	u64_stats_inc(&here->value[which]);
	u64_stats_update_end(&here->sync);
}

static struct viaduct_rule *match(struct viaduct_net *vn,
				  const struct viaduct_steer_packet *packet)
{
	struct viaduct_rule *rule;

	list_for_each_entry_rcu(rule, &vn->rules, list)
		if (viaduct_steer_fits(&rule->steer, packet))
			return rule;
	return NULL;
}

/* The one of its CPUs, of which there are some, that all packets of a flow go to. */
static unsigned int cpu_of(const struct viaduct_rule *rule, const struct viaduct_addr *src,
			   const struct viaduct_addr *dst, u32 protocol)
{
	u32 hash = viaduct_flow_hash(src, dst, protocol, flow_seed);

	return viaduct_steer_cpu(&rule->steer, hash);
}

/* To where the rule wants it, if it is not there. */
static enum viaduct_place place(struct viaduct_net *vn,
				const struct viaduct_rule *rule,
				struct sk_buff *skb,
				const struct nf_hook_state *state,
				struct viaduct_received *rx)
{
	unsigned int cpu;

	if (!rule->steer.cpus_count)
		return VIADUCT_PLACE_HERE;
	cpu = cpu_of(rule, &rx->src, &rx->dst, rx->protocol);
	if (unlikely(!cpu_online(cpu))) {
		rx->offline = true;
		return VIADUCT_PLACE_HERE;
	}
	if (cpu == smp_processor_id() && !viaduct_queue_busy(vn, cpu))
		return VIADUCT_PLACE_HERE;
	if (rx->at_ingress)
		return VIADUCT_PLACE_LATER;
	if (!viaduct_queue_takes(skb, state))
		return VIADUCT_PLACE_HERE;
	if (!viaduct_queue_put(vn, skb, state, cpu)) {
		count(rule, VIADUCT_RC_FULL);
		return VIADUCT_PLACE_FULL;
	}
	count(rule, VIADUCT_RC_MOVED);
	return VIADUCT_PLACE_MOVED;
}

enum viaduct_place viaduct_steer(struct viaduct_net *vn, struct sk_buff *skb,
				 const struct nf_hook_state *state,
				 const struct viaduct_leg *leg,
				 struct viaduct_received *rx)
{
	struct viaduct_steer_packet packet = {
		.dst = &rx->dst,
		.protocol = rx->protocol,
		.to_leg = leg,
	};
	struct viaduct_rule *rule;

	/* All others come to PRE_ROUTING yet. */
	if (rx->at_ingress && !leg)
		return VIADUCT_PLACE_HERE;
	rule = match(vn, &packet);
	if (!rule)
		return VIADUCT_PLACE_HERE;
	rx->rule = &rule->steer;
	if (rx->moved)
		return VIADUCT_PLACE_HERE;
	/* Before it is moved, for then it is no longer here. */
	if (rule->steer.class == VIADUCT_STEER_SIP) {
		if (rule->steer.has_priority)
			skb->priority = rule->steer.priority;
		if (rule->steer.has_mark)
			skb->mark = rule->steer.mark;
	}
	return place(vn, rule, skb, state, rx);
}

/*
 * The module's own queues are not asked: at PRE_ROUTING on that CPU a packet stands behind what waits
 * there. Were it left here for their sake it would overtake those that are on their way already.
 */
bool viaduct_steer_consult(struct viaduct_net *vn, const struct viaduct_addr *src,
			   const struct viaduct_steer_packet *packet, unsigned int *cpu)
{
	const struct viaduct_rule *rule = match(vn, packet);

	if (!rule || !rule->steer.cpus_count)
		return false;
	*cpu = cpu_of(rule, src, packet->dst, packet->protocol);
	if (unlikely(!cpu_online(*cpu)))
		return false;
	if (*cpu != smp_processor_id())
		count(rule, VIADUCT_RC_BEFORE_STACK);
	return true;
}

void viaduct_steer_count(const struct viaduct_received *rx)
{
	const struct viaduct_rule *rule =
		container_of(rx->rule, struct viaduct_rule, steer);

	count(rule, VIADUCT_RC_MATCHED);
	if (rx->offline)
		count(rule, VIADUCT_RC_OFFLINE);
}

struct viaduct_rule *viaduct_rule_alloc(void)
{
	struct viaduct_rule *rule;
	int cpu;

	rule = kzalloc(sizeof(*rule), GFP_KERNEL_ACCOUNT);
	if (!rule)
		return NULL;
	rule->counters = alloc_percpu_gfp(struct viaduct_rule_counters,
					  GFP_KERNEL_ACCOUNT);
	if (!rule->counters) {
		kfree(rule);
		return NULL;
	}
	for_each_possible_cpu(cpu)
		u64_stats_init(&per_cpu_ptr(rule->counters, cpu)->sync);
	return rule;
}

void viaduct_rule_free(struct viaduct_rule *rule)
{
	free_percpu(rule->counters);
	kfree(rule);
}

static void rule_free_rcu(struct rcu_head *rcu)
{
	viaduct_rule_free(container_of(rcu, struct viaduct_rule, rcu));
}

void viaduct_rule_sum(const struct viaduct_rule *rule, u64 *to)
{
	int cpu, i;

	memset(to, 0, sizeof(*to) * (VIADUCT_RC_MAX + 1));
	for_each_possible_cpu(cpu) {
		const struct viaduct_rule_counters *from =
			per_cpu_ptr(rule->counters, cpu);
		u64 seen[VIADUCT_RC_MAX + 1];
		unsigned int start;

		do {
			start = u64_stats_fetch_begin(&from->sync);
			for (i = 0; i <= VIADUCT_RC_MAX; i++)
				seen[i] = u64_stats_read(&from->value[i]);
		} while (u64_stats_fetch_retry(&from->sync, start));
		for (i = 0; i <= VIADUCT_RC_MAX; i++)
			to[i] += seen[i];
	}
}

struct viaduct_rule *viaduct_rule_find(struct viaduct_net *vn, u32 id)
{
	struct viaduct_rule *rule;

	list_for_each_entry(rule, &vn->rules, list)
		if (rule->steer.id == id)
			return rule;
	return NULL;
}

int viaduct_rule_insert(struct viaduct_net *vn, struct viaduct_rule *rule,
			struct viaduct_owner *owner)
{
	struct viaduct_rule *behind;
	int err;

	if (rule->steer.cpus_count) {
		get_random_once(&flow_seed, sizeof(flow_seed));
		err = viaduct_queues_init(vn);
		if (err)
			return err;
	}
	rule->owner = owner;
	list_for_each_entry(behind, &vn->rules, list)
		if (behind->steer.id > rule->steer.id)
			break;
	/* Before the one found, or at the end: then it is the head. */
	list_add_tail_rcu(&rule->list, &behind->list);
	vn->rules_count++;
	vn->rules_generation++;
	return 0;
}

void viaduct_rule_remove(struct viaduct_net *vn, struct viaduct_rule *rule)
{
	list_del_rcu(&rule->list);
	vn->rules_count--;
	vn->rules_generation++;
	call_rcu(&rule->rcu, rule_free_rcu);
}

void viaduct_rules_remove(struct viaduct_net *vn, struct viaduct_owner *owner)
{
	struct viaduct_rule *rule, *next;

	list_for_each_entry_safe(rule, next, &vn->rules, list)
		if (rule->owner == owner)
			viaduct_rule_remove(vn, rule);
}
