// SPDX-License-Identifier: GPL-2.0
/* What is told to user space unasked, and what happens by the clock. */
#include <linux/bitops.h>
#include <linux/log2.h>

#include "event.h"
#include "netlink.h"

#define QUEUED 31	/* bit of session->events: it is in vn->pending */
#define TOLD_RARELY (VIADUCT_EVENT_FOREIGN | VIADUCT_EVENT_LIMITED)

/*
 * The forward path only sets a bit; a message, which wants memory, is made by
 * the worker. An event not told yet is not told twice.
 */
void viaduct_event(struct viaduct_session *session, unsigned long event)
{
	if (event & TOLD_RARELY) {
		if (time_before(jiffies, READ_ONCE(session->told) + HZ))
			return;
		WRITE_ONCE(session->told, jiffies);
	}
	set_bit(ilog2(event), &session->events);
	if (test_and_set_bit(QUEUED, &session->events))
		return;
	if (!refcount_inc_not_zero(&session->refs))
		return;
	llist_add(&session->pending, &session->vn->pending);
	schedule_work(&session->vn->tell);
}

static void tell(struct work_struct *work)
{
	struct viaduct_net *vn = container_of(work, struct viaduct_net, tell);
	struct viaduct_session *session, *next;
	struct llist_node *list = llist_del_all(&vn->pending);

	mutex_lock(&vn->lock);
	llist_for_each_entry_safe(session, next, list, pending) {
		unsigned long events = xchg(&session->events, 0);

		events &= ~BIT(QUEUED);
		if (!session->removed && events)
			viaduct_tell_session(session, events, false);
		viaduct_session_put(session);
	}
	mutex_unlock(&vn->lock);
}

static void sweep_session(struct viaduct_session *session)
{
	unsigned long last = session->since;
	int i;

	if (!session->idle_s)
		return;
	for (i = 0; i < 2; i++) {
		unsigned long seen = READ_ONCE(session->leg[i].seen);

		if (READ_ONCE(session->leg[i].heard) && time_after(seen, last))
			last = seen;
	}
	if (time_before(jiffies, last + session->idle_s * HZ)) {
		session->idle_told = false;
	} else if (!session->idle_told) {
		session->idle_told = true;
		rcu_read_lock();
		viaduct_event(session, VIADUCT_EVENT_IDLE);
		rcu_read_unlock();
	}
}

static void sweep(struct work_struct *work)
{
	struct viaduct_net *vn = container_of(to_delayed_work(work),
					      struct viaduct_net, sweep);
	struct viaduct_owner *owner, *next;
	struct viaduct_session *session;

	mutex_lock(&vn->lock);
	list_for_each_entry_safe(owner, next, &vn->owners, list) {
		if (!owner->portid &&
		    time_after(jiffies, owner->gone + owner->grace_s * HZ)) {
			viaduct_tell_owner(vn, owner->id, VIADUCT_EVENT_EXPIRED);
			viaduct_owner_remove(vn, owner);
			continue;
		}
		list_for_each_entry(session, &owner->sessions, of_owner) {
			sweep_session(session);
			cond_resched();
		}
	}
	if (!list_empty(&vn->owners) && !vn->dying)
		schedule_delayed_work(&vn->sweep, HZ);
	mutex_unlock(&vn->lock);
}

void viaduct_sweep_start(struct viaduct_net *vn)
{
	if (!vn->dying)
		schedule_delayed_work(&vn->sweep, HZ);
}

void viaduct_event_last(struct viaduct_net *vn)
{
	struct viaduct_session *session;
	struct viaduct_owner *owner;

	mutex_lock(&vn->lock);
	list_for_each_entry(owner, &vn->owners, list) {
		list_for_each_entry(session, &owner->sessions, of_owner) {
			viaduct_tell_session(session, VIADUCT_EVENT_UNLOADED,
					     true);
			cond_resched();
		}
	}
	mutex_unlock(&vn->lock);
}

void viaduct_event_init(struct viaduct_net *vn)
{
	init_llist_head(&vn->pending);
	INIT_WORK(&vn->tell, tell);
	INIT_DELAYED_WORK(&vn->sweep, sweep);
}

void viaduct_event_exit(struct viaduct_net *vn)
{
	cancel_delayed_work_sync(&vn->sweep);
	/* Not cancelled: it holds references to sessions. */
	flush_work(&vn->tell);
}
