// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <string.h>
#include <unistd.h>

#include "checks.h"
#include "control.h"
#include "place.h"

#define SIP 5060
#define SENT 100

#define CHECK(condition)                                     \
	do {                                                 \
		if (!(condition))                            \
			DIE("%s: not so: %s", __func__, #condition); \
	} while (0)

static struct control control;

static bool write_file(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);
	bool written;

	if (file < 0)
		return false;
	written = write(file, text, strlen(text)) == (ssize_t)strlen(text);
	close(file);
	return written;
}

bool cpu1_online(bool online)
{
	return write_file("/sys/devices/system/cpu/cpu1/online", online ? "1" : "0");
}

static void queue_limit(const char *packets)
{
	if (!write_file("/sys/module/viaduct/parameters/steer_queue", packets))
		DIE("steer_queue: %s", strerror(errno));
}

static void add(const struct rule *rule)
{
	int error = rule_add(&control, rule);

	if (error)
		DIE("a rule: %s", strerror(error));
	rule_check(&control, rule);
}

static struct rule sip_rule(void)
{
	struct rule rule = { .id = 10, .class = VIADUCT_STEER_SIP,
			     .protocols = VIADUCT_PROTO_UDP, .port_first = SIP,
			     .port_last = SIP };

	return rule;
}

static struct rule_counters counted(uint32_t id, uint64_t matched)
{
	struct rule_counters c = rule_remove(&control, id);

	if (c.matched != matched)
		DIE("%llu packets were fitted, not %llu", (unsigned long long)c.matched,
		    (unsigned long long)matched);
	return c;
}

/* SENT packets of one flow to @ip all come to the CPU. */
static void all_on(uint32_t cpu, const char *from_ip, const char *ip, const char *what)
{
	struct known known = { SKF_AD_CPU, cpu };
	int to = socket_in("r", SOCK_DGRAM, ip, SIP);
	int from = socket_in("a", SOCK_DGRAM, from_ip, 40000);

	receive_only(to, &known, 1);
	send_numbered(from, ip, SIP, 1, SENT);
	receive_numbered(to, 1, SENT, what);
	close(from);
	close(to);
}

static void sip_is_handled_on_the_cpu_of_its_rule_in_order(void)
{
	struct rule rule = sip_rule();
	struct rule_counters c;

	all_on(0, A, R_TO_A, "without a rule");
	rule.cpus = 2;
	add(&rule);
	all_on(1, A, R_TO_A, "IPv4 on CPU 1");
	all_on(1, A_V6, R_V6, "IPv6 on CPU 1");
	c = counted(rule.id, 2 * SENT);
	CHECK(c.moved == 2 * SENT && !c.full && !c.offline);
	all_on(0, A, R_TO_A, "without the rule again");
}

static void on_its_cpu_it_stays(void)
{
	struct rule rule = sip_rule();
	struct rule_counters c;

	rule.cpus = 1;
	add(&rule);
	all_on(0, A, R_TO_A, "on CPU 0");
	c = counted(rule.id, SENT);
	CHECK(!c.moved && !c.full && !c.offline);
}

static void a_connection_over_tcp_is_handled_on_its_cpu(void)
{
	struct rule rule = sip_rule();
	struct sockaddr_storage at;
	int listening, from, to, cpu = -1;
	socklen_t len = address(R_TO_A, SIP, &at), size = sizeof(cpu);
	struct rule_counters c;
	char octet = 0;

	rule.protocols = VIADUCT_PROTO_TCP;
	rule.cpus = 2;
	add(&rule);
	listening = socket_in("r", SOCK_STREAM, R_TO_A, SIP);
	from = socket_in("a", SOCK_STREAM, A, 40001);
	CHECK(!listen(listening, 1));
	CHECK(!connect(from, (struct sockaddr *)&at, len));
	to = accept(listening, NULL, NULL);
	CHECK(to >= 0 && write(from, &octet, 1) == 1 && read(to, &octet, 1) == 1);
	CHECK(!getsockopt(to, SOL_SOCKET, SO_INCOMING_CPU, &cpu, &size));
	CHECK(cpu == 1);
	c = rule_counters(&control, rule.id);
	/*
	 * What opens the connection and the octet are sent from here; what acknowledges in between is
	 * sent by the kernel, on the CPU of what it acknowledges.
	 */
	CHECK(c.matched >= 3 && c.moved >= 2 && !c.full);
	close(from);
	close(to);
	close(listening);
	rule_remove(&control, rule.id);
}

static void flows_are_spread_whole(void)
{
	enum { FLOWS = 64, EACH = 5 };
	int to = socket_in("r", SOCK_DGRAM, R_TO_A, SIP), from;
	struct rule rule = sip_rule();
	struct rule_counters c;
	uint32_t i;

	rule.cpus = 3;
	add(&rule);
	for (i = 0; i < FLOWS; i++) {
		uint64_t moved = rule_counters(&control, rule.id).moved;

		from = socket_in("a", SOCK_DGRAM, A, (uint16_t)(41000 + i));
		send_numbered(from, R_TO_A, SIP, EACH * i, EACH);
		receive_numbered(to, EACH * i, EACH, "a flow");
		moved = rule_counters(&control, rule.id).moved - moved;
		CHECK(moved == 0 || moved == EACH);
		close(from);
	}
	c = counted(rule.id, FLOWS * EACH);
	CHECK(c.moved > 0 && c.moved < FLOWS * EACH);
	close(to);
}

/* The first by ID that fits; an address that is not the packet's does not fit. */
static void the_first_rule_that_fits_marks(void)
{
	struct rule rules[] = { sip_rule(), sip_rule(), sip_rule(), sip_rule() };
	struct known mark = { SKF_AD_MARK, 77 };
	int to = socket_in("r", SOCK_DGRAM, R_TO_A, SIP);
	int from = socket_in("a", SOCK_DGRAM, A, 40000);
	int i;

	rules[0].addr = R_TO_B;
	rules[1].port_first = rules[1].port_last = SIP + 1;
	rules[2].addr = R_TO_A;
	/* In another order than that of their IDs. */
	for (i = 3; i >= 0; i--) {
		rules[i].id = (uint32_t)(20 + i);
		rules[i].mark = (uint32_t)(75 + i);
		add(&rules[i]);
	}
	CHECK(rules_count(&control) == 4);
	receive_only(to, &mark, 1);
	send_numbered(from, R_TO_A, SIP, 1, SENT);
	receive_numbered(to, 1, SENT, "marked by the third rule");
	for (i = 0; i < 4; i++)
		counted(rules[i].id, i == 2 ? SENT : 0);
	CHECK(rules_count(&control) == 0);
	close(from);
	close(to);
}

/* A session's packets: on CPU 1, by transmit queue 1, with a mark; the peer gets them in order. */
static void rtp_goes_by_its_cpu_queue_and_mark(const char *ingress)
{
	struct rule rule = { .id = 5, .class = VIADUCT_STEER_RTP,
			     .protocols = VIADUCT_PROTO_UDP, .port_first = 20000,
			     .port_last = 20000, .cpus = 2, .mark = 99, .queue = 1 };
	struct known leaves[] = {
		{ SKF_AD_PKTTYPE, PACKET_OUTGOING }, { SKF_AD_PROTOCOL, ETH_P_IP },
		{ SKF_AD_CPU, 1 }, { SKF_AD_QUEUE, 1 }, { SKF_AD_MARK, 99 },
	};
	struct control owner;
	int from = socket_in("a", SOCK_DGRAM, A, 30000), peer, tap;
	struct rule_counters c;

	control_open(&owner, OWNER + 1);
	session_add(&owner, 20000, 30000, 20002, 30002);
	if (ingress)
		device_add(&owner, ingress);
	add(&rule);
	peer = socket_in("b", SOCK_DGRAM, B, 30002);
	tap = tap_in("r", "to-b");
	receive_only(tap, leaves, 5);
	send_numbered(from, R_TO_A, 20000, 1, SENT);
	receive_numbered(peer, 1, SENT, "RTP");
	receive_numbered(tap, 1, SENT, "RTP as it leaves");
	/* The other way no rule fits. */
	send_numbered(peer, R_TO_B, 20002, 1, SENT);
	receive_numbered(from, 1, SENT, "RTP the other way");
	c = counted(rule.id, SENT);
	CHECK(c.moved == SENT);
	close(from);
	close(peer);
	close(tap);
	control_detach(&owner);
	control_close(&owner);
}

static void rules_that_make_no_sense_are_refused(void)
{
	struct rule rule = sip_rule();
	struct control stranger;
	uint32_t i;

	CHECK(rule_add(&control, &rule) == EINVAL);	/* it does nothing */
	rule.mark = 1;
	rule.queue = 1;
	CHECK(rule_add(&control, &rule) == EINVAL);	/* of SIP */
	rule.queue = 0;
	rule.cpus = 0x82;
	CHECK(rule_add(&control, &rule) == ERANGE);
	rule.cpus = 0;
	rule.port_last = SIP - 1;
	CHECK(rule_add(&control, &rule) == EINVAL);
	rule.port_first = rule.port_last = 0;
	CHECK(rule_add(&control, &rule) == EINVAL);
	rule.port_first = SIP;
	rule.addr = "224.0.0.1";
	CHECK(rule_add(&control, &rule) == EINVAL);
	rule.addr = NULL;
	rule.class = VIADUCT_STEER_RTP;
	rule.protocols = VIADUCT_PROTO_ALL;
	CHECK(rule_add(&control, &rule) == EINVAL);
	rule.protocols = 0;
	rule.class = 3;
	CHECK(rule_add(&control, &rule) == ERANGE);
	rule.class = 0;
	CHECK(rule_add(&control, &rule) == EINVAL);
	CHECK(rules_count(&control) == 0);

	rule = sip_rule();
	rule.mark = 1;
	for (rule.id = 0; rule.id < 32; rule.id++)
		CHECK(rule_add(&control, &rule) == 0);
	CHECK(rule_add(&control, &rule) == ENOSPC);
	rule.id = 7;
	CHECK(rule_add(&control, &rule) == EEXIST);
	CHECK(rules_count(&control) == 32);
	control_open(&stranger, OWNER + 1);
	CHECK(rule_try_remove(&stranger, 7) == EPERM);
	control_close(&stranger);
	for (i = 0; i < 32; i++)
		CHECK(rule_try_remove(&control, i) == 0);
	CHECK(rule_try_remove(&control, 7) == ENOENT);
}

static void without_its_cpu_it_stays_where_it_is(void)
{
	struct rule rule = sip_rule();
	struct rule_counters c;

	rule.cpus = 2;
	if (!cpu1_online(false)) {
		printf("skipped: %s, as this kernel does not take a CPU away\n", __func__);
		return;
	}
	add(&rule);
	all_on(0, A, R_TO_A, "while CPU 1 is away");
	c = rule_counters(&control, rule.id);
	CHECK(c.offline == SENT && !c.moved);
	CHECK(cpu1_online(true));
	all_on(1, A, R_TO_A, "CPU 1 is back");
	c = counted(rule.id, 2 * SENT);
	CHECK(c.offline == SENT && c.moved == SENT);
}

#define RUN(check)                            \
	do {                                  \
		check;                        \
		printf("ok   %s\n", #check);  \
		fflush(stdout);               \
	} while (0)

void checks(void)
{
	stay_on(0);
	control_open(&control, OWNER);
	RUN(rules_that_make_no_sense_are_refused());
	RUN(sip_is_handled_on_the_cpu_of_its_rule_in_order());
	RUN(on_its_cpu_it_stays());
	RUN(a_connection_over_tcp_is_handled_on_its_cpu());
	RUN(flows_are_spread_whole());
	RUN(the_first_rule_that_fits_marks());
	RUN(rtp_goes_by_its_cpu_queue_and_mark(NULL));
	RUN(rtp_goes_by_its_cpu_queue_and_mark("to-a"));
	RUN(without_its_cpu_it_stays_where_it_is());
}

void check_priority(void)
{
	struct rule rule = { .id = 5, .class = VIADUCT_STEER_RTP,
			     .protocols = VIADUCT_PROTO_UDP, .port_first = 1,
			     .port_last = 65535, .priority = 0x10003 };
	int from = socket_in("a", SOCK_DGRAM, A, 30000);
	int peer = socket_in("b", SOCK_DGRAM, B, 30002);

	control_open(&control, OWNER);
	session_add(&control, 20000, 30000, 20002, 30002);
	add(&rule);
	send_numbered(from, R_TO_A, 20000, 1, SENT);
	receive_numbered(peer, 1, SENT, "RTP with a priority");
	counted(rule.id, SENT);
	control_detach(&control);
}

/* What does not fit is dropped and counted; the rest comes, in order. */
static uint64_t burst(int from, int to, uint32_t id, uint32_t first, uint32_t count)
{
	struct rule_counters before = rule_counters(&control, id), now;
	int tries;

	send_numbered(from, R_TO_A, SIP, first, count);
	for (tries = 0; tries < 10000; tries++) {
		now = rule_counters(&control, id);
		if (now.matched - before.matched == count)
			break;
		usleep(1000);
	}
	CHECK(now.matched - before.matched == count);
	CHECK(now.moved - before.moved + now.full - before.full == count);
	receive_ascending(to, (uint32_t)(now.moved - before.moved));
	return now.full - before.full;
}

void check_full(void)
{
	enum { BURST = 2000, BURSTS = 200 };
	int from = socket_in("a", SOCK_DGRAM, A, 40000);
	int to = socket_in("r", SOCK_DGRAM, R_TO_A, SIP);
	struct rule rule = sip_rule();
	uint64_t full = 0;
	uint32_t bursts;

	stay_on(0);
	control_open(&control, OWNER);
	rule.cpus = 2;
	add(&rule);
	queue_limit("0");
	CHECK(burst(from, to, rule.id, 0, SENT) == SENT);
	queue_limit("1");
	for (bursts = 0; bursts < BURSTS && !full; bursts++)
		full = burst(from, to, rule.id, bursts * BURST, BURST);
	CHECK(full > 0 && full < BURST);
	queue_limit("1000");
	rule_remove(&control, rule.id);
	printf("ok   a full queue drops, counts and keeps the order: %llu of %u\n",
	       (unsigned long long)full, BURST);
}
