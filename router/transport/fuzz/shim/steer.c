// SPDX-License-Identifier: GPL-2.0-only
/*
 * The steering program in user space: its source as it is, the helpers it calls, and a frame that
 * ends where no page follows, so that a read behind it ends the process. Addresses of frames have 32
 * bits, as in the kernel's context.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "steer.bpf.c"

#define ROOM 65536
#define PAGE 4096

/* What became of a frame; `fuzz_targets/steer.rs` has the same. */
struct outcome {
	__u32 action;
	__u32 counted; /* verdicts, all together */
	__u32 verdict; /* the last of them */
	__u32 place;   /* in the table of sockets; NOBODY: none */
};

static __u64 counts[VERDICTS];
static __u32 place, tail_calls;
static struct settings now_set;
static struct scratch space;
static struct bucket one_bucket;
static const __u8 *whole;
static __u32 whole_length;

/* Banned is who ends in 0xff; every other source is known to be as fast as the limit allows. */
void *bpf_map_lookup_elem(const void *map, const void *key)
{
	static __u32 there;
	static __u64 until = 2000000000ULL;
	const struct address *source = key;
	const struct listener *to = key;
	__u32 index;

	if (map == &settings)
		return &now_set;
	if (map == &scratch)
		return &space;
	if (map == &listeners)
		return to->port == bpf_htons(5060) ? &there : NULL;
	if (map == &banned)
		return source->bytes[15] == 0xff ? &until : NULL;
	if (map == &buckets)
		return source->bytes[15] & 1 ? &one_bucket : NULL;
	if (map != &verdicts)
		abort();
	memcpy(&index, key, sizeof(index));
	return index < VERDICTS ? &counts[index] : NULL;
}

long bpf_map_update_elem(void *map, const void *key, const void *value, __u64 flags)
{
	if (map != &buckets)
		abort();
	memcpy(&one_bucket, value, sizeof(one_bucket));
	return 0;
}

long bpf_redirect_map(void *map, __u64 key, __u64 flags)
{
	if (map != &sockets || key >= MOST_QUEUES * MOST_WORKERS)
		abort();
	place = key;
	return XDP_REDIRECT;
}

void bpf_tail_call(void *ctx, const void *map, __u32 index)
{
	tail_calls++;
}

__u64 bpf_ktime_get_ns(void)
{
	return 1000000000ULL;
}

static long load(const __u8 *from, __u32 length, __u32 offset, void *to, __u32 wanted)
{
	if (offset > length || wanted > length - offset)
		return -1;
	memcpy(to, from + offset, wanted);
	return 0;
}

long bpf_xdp_load_bytes(void *ctx, __u32 offset, void *to, __u32 length)
{
	const struct xdp_md *md = ctx;
	const __u8 *start = (const __u8 *)(long)md->data;

	return load(start, md->data_end - md->data, offset, to, length);
}

long bpf_skb_load_bytes(const void *ctx, __u32 offset, void *to, __u32 length)
{
	return load(whole, whole_length, offset, to, length);
}

long bpf_loop_in_user_space(__u32 most, long (*step)(__u32, void *), void *ctx)
{
	__u32 i;

	for (i = 0; i < most; i++)
		if (step(i, ctx))
			return i + 1;
	return i;
}

/* Room for a frame, with nothing behind it. */
static __u8 *room(void)
{
	static __u8 *made;

	if (made)
		return made;
	made = mmap(NULL, ROOM + PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (made == MAP_FAILED || mprotect(made + ROOM, PAGE, PROT_NONE))
		abort();
	return made;
}

static void begin(__u32 workers)
{
	static const __u8 mac[6] = { 2, 0, 0, 0, 0, 1 };

	memset(counts, 0, sizeof(counts));
	/* What an earlier message has left behind counts for nothing. */
	memset(&space, 0xa5, sizeof(space));
	memset(&now_set, 0, sizeof(now_set));
	memcpy(now_set.mac, mac, sizeof(mac));
	now_set.workers = workers;
	now_set.longest_frame = 4096;
	now_set.banning = 1;
	now_set.per_second = 1000;
	now_set.burst = 10;
	one_bucket.at_ns = 0;
	one_bucket.tokens_ns = 1000000;
	place = NOBODY;
}

void viaduct_steer(const __u8 *frame, __u32 length, __u32 queue, __u32 workers, struct outcome *out)
{
	__u8 *at = room() + ROOM - length;
	struct xdp_md md = { .rx_queue_index = queue };
	__u32 i;

	if (length > ROOM)
		abort();
	memcpy(at, frame, length);
	md.data = (__u32)(uintptr_t)at;
	md.data_end = (__u32)(uintptr_t)(at + length);
	begin(workers);
	memset(out, 0, sizeof(*out));
	out->action = steer(&md);
	out->place = place;
	for (i = 0; i < VERDICTS; i++) {
		out->counted += counts[i];
		if (counts[i])
			out->verdict = i;
	}
	/* It reads, and writes nothing. */
	if (memcmp(at, frame, length))
		abort();
}

__u32 viaduct_choose(const __u8 *message, __u32 length, __u32 workers)
{
	struct __sk_buff skb = { .len = length };

	begin(workers);
	whole = message;
	whole_length = length;
	return choose(&skb);
}
