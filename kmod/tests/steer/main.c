// SPDX-License-Identifier: GPL-2.0
/*
 * Steering, seen from outside: steer-test WHAT, in a guest of two CPUs with the namespaces of
 * qemu/steer.sh. Packets are sent from CPU 0. That they were handled on another, or marked, is seen by
 * socket filters, which run where and when the socket is given the packet.
 *
 *   checks    what rules do to SIP and RTP, and which are refused
 *   priority  sends 100 packets of RTP that leave with the priority 1:2
 *   full      a queue that is full
 *   hold      leaves rules and a session behind, for a minute, when a queue has been full
 *   flood     SIP and RTP from both CPUs, until it is ended; nothing it meets ends it
 *   churn N   adds and removes rules N times, while CPU 1 goes and comes, where it can
 */
#include <string.h>

#include "checks.h"
#include "churn.h"
#include "tests/netlink/wire.h"

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "checks"))
		checks();
	else if (!strcmp(what, "priority"))
		check_priority();
	else if (!strcmp(what, "full"))
		check_full();
	else if (!strcmp(what, "hold"))
		hold();
	else if (!strcmp(what, "flood"))
		flood();
	else if (!strcmp(what, "churn") && argc > 2)
		churn((uint32_t)strtoul(argv[2], NULL, 10));
	else
		DIE("usage: steer-test checks|priority|full|hold|flood|churn N");
	return 0;
}
