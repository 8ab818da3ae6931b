/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_EVENT_H
#define VIADUCT_EVENT_H

#include "session.h"

/* Notes one VIADUCT_EVENT_* to be told soon. From any context, under RCU. */
void viaduct_event(struct viaduct_session *session, unsigned long event);

/* Tells the final counters of all sessions. No packet may be under way any more. */
void viaduct_event_last(struct viaduct_net *vn);

void viaduct_event_init(struct viaduct_net *vn);
/* No packet may be under way any more. */
void viaduct_event_exit(struct viaduct_net *vn);
/* Keeps an eye on idle sessions and lost owners, once a second. */
void viaduct_sweep_start(struct viaduct_net *vn);

#endif
