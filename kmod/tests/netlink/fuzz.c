// SPDX-License-Identifier: GPL-2.0
/*
 * Netlink messages for the module, right, spoilt and random, with packets through its sessions
 * meanwhile: fuzz MESSAGES [SEED]. Works in network namespaces of its own, a new one each ROUND
 * messages, so that sessions, owners and sockets also go with their namespace. Where the kernel can
 * (CONFIG_FAULT_INJECTION), allocations fail in one message of eight.
 *
 * Always true, whatever is sent: a refusal has one of the errors uapi/viaduct.h names; an answer is
 * well formed; INFO counts what a dump shows; a session of an owner that took no part is as it was,
 * and relays. What else may go wrong, the kernel finds (KASAN, lockdep, kmemleak).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <net/if.h>
#include <time.h>
#include <unistd.h>

#include "canary.h"
#include "make.h"
#include "traffic.h"
#include "uapi/viaduct.h"

#define ROUND 20000
#define AUDIT 500
#define SOCKETS 6

static struct message message;

/* Errors of uapi/viaduct.h, and those of netlink itself and of memory. */
static bool expected(int error)
{
	static const int known[] = { 0, EINVAL, ERANGE, EPERM, EEXIST, ENOENT, ENOSPC, EBUSY, E2BIG,
				     ENODEV, EOPNOTSUPP };
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (error == known[i])
			return true;
	return false;
}

/* Of this thread; less than 0: this kernel fails no allocations. */
static int fail_nth_file;

/* Arms the failure of the @nth allocation from now on. */
static void faults_arm(uint32_t nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", nth);

	if (pwrite(fail_nth_file, text, (size_t)len, 0) != len)
		DIE("fail-nth: %s", strerror(errno));
}

/* Whether the allocation has failed, or was never reached. */
static bool faults_disarm(void)
{
	char left[16] = "";
	bool failed = pread(fail_nth_file, left, sizeof(left) - 1, 0) > 0 && atoi(left) == 0;

	faults_arm(0);
	return failed;
}

struct counts {
	uint64_t sent, accepted, answers, failed_allocations;
	uint64_t refused[256];
};

static void well_formed(const struct nlmsghdr *header, void *unused)
{
	(void)unused;
	attrs_check((const uint8_t *)header + HEADERS, header->nlmsg_len - HEADERS, 0);
}

static void send_one(int socket, struct random *r, struct counts *counts)
{
	uint32_t nth = one_in(r, 8) ? 1 + below(r, 24) : 0;
	bool failing = nth && fail_nth_file >= 0;
	struct outcome outcome;

	if (failing)
		faults_arm(nth);
	outcome = exchange(socket, &message, well_formed, NULL);
	failing = failing && faults_disarm();
	counts->sent++;
	counts->answers += outcome.answers;
	counts->failed_allocations += failing;
	if (failing && (outcome.error == ENOMEM || outcome.error == ENOBUFS))
		return;
	if (!expected(outcome.error))
		DIE("message %llu: unexpected error %d (%s)", (unsigned long long)counts->sent,
		    outcome.error, strerror(outcome.error));
	if (outcome.error)
		counts->refused[outcome.error & 255]++;
	else if (outcome.acknowledged || outcome.answers)
		counts->accepted++;
}

static void one_message(int *sockets, struct random *r, uint16_t family,
			struct counts *counts)
{
	int *socket = &sockets[below(r, SOCKETS)];
	uint32_t kind = below(r, 10);

	if (one_in(r, 300)) {	/* its owner may come back, by another socket */
		close(*socket);
		*socket = netlink_open();
	}
	if (kind == 0)
		make_random(&message, r, family);
	else
		make_right(&message, r, family);
	if (kind >= 6)
		spoil(&message, r);
	send_one(*socket, r, counts);
}

static void loopback_up(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (s < 0 || ioctl(s, SIOCSIFFLAGS, &lo))
		DIE("lo: %s", strerror(errno));
	close(s);
}

static void round_of(uint64_t messages, struct random *r, struct counts *counts)
{
	struct traffic traffic;
	struct canary canary;
	int sockets[SOCKETS];
	uint16_t family;
	uint64_t i;

	if (unshare(CLONE_NEWNET))
		DIE("a network namespace: %s", strerror(errno));
	loopback_up();
	for (i = 0; i < SOCKETS; i++)
		sockets[i] = netlink_open();
	family = family_id(sockets[0], VIADUCT_FAMILY_NAME);
	canary_open(&canary, family);
	traffic_start(&traffic, next(r));
	for (i = 1; i <= messages; i++) {
		one_message(sockets, r, family, counts);
		if (i % AUDIT == 0 || i == messages)
			canary_check(&canary);
	}
	traffic_stop(&traffic);
	canary_close(&canary);
	for (i = 0; i < SOCKETS; i++)
		close(sockets[i]);
}

static void report(const struct counts *counts)
{
	int error;

	printf("netlink fuzz: %llu messages, %llu accepted, %llu answers, %llu failed allocations\n",
	       (unsigned long long)counts->sent, (unsigned long long)counts->accepted,
	       (unsigned long long)counts->answers,
	       (unsigned long long)counts->failed_allocations);
	for (error = 1; error < 256; error++)
		if (counts->refused[error])
			printf("netlink fuzz: %8llu refused: %s\n",
			       (unsigned long long)counts->refused[error], strerror(error));
	/* A fuzzer that never gets through tests the first check alone. */
	if (counts->accepted < counts->sent / 50)
		DIE("too few messages were accepted");
}

int main(int argc, char **argv)
{
	uint64_t messages = argc > 1 ? strtoull(argv[1], NULL, 0) : 0, left;
	struct random r = { argc > 2 ? strtoull(argv[2], NULL, 0) : 1 };
	static struct counts counts;
	struct timespec from, to;

	if (!messages) {
		fprintf(stderr, "usage: fuzz MESSAGES [SEED]\n");
		return 2;
	}
	fail_nth_file = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	printf("netlink fuzz: seed %llu, allocations %s fail here\n", (unsigned long long)r.state,
	       fail_nth_file >= 0 ? "can" : "cannot");
	fflush(stdout);
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (left = messages; left;) {
		uint64_t n = left < ROUND ? left : ROUND;

		round_of(n, &r, &counts);
		left -= n;
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	report(&counts);
	printf("netlink fuzz: %ld s\n", (long)(to.tv_sec - from.tv_sec));
	return 0;
}
