// SPDX-License-Identifier: GPL-2.0-only
/*
 * Under pressure most of what begins something new is thrown away unread (router/engine/src/engine/gate.rs).
 * `sieve` does that before a datagram is queued at the socket, for a share the router says, and nothing else:
 * whatever is not seen at a glance to be a new request is kept. It tells by the same rule as `begins_new` there,
 * which is the second judge; a test compares them.
 */
#include <linux/bpf.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>

#define UDP_HEADER sizeof(struct udphdr)
/* Header lines that are looked at for To. */
#define MOST_LINES 32
#define KEEP 0xffffffffU

enum phase { LINES, LABEL, VALUE };

struct search {
	__u32 length;
	__u32 at;
	__u32 line; /* where the line being read begins */
	__u32 lines;
	__u32 phase;
	__u32 matched; /* characters of "tag" just seen */
	__u32 is_new;
};

#include "scratch.h"

/* Of 2^32 new requests so many are kept. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} kept SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} dropped SEC(".maps");

static __always_inline int is_blank(__u8 c)
{
	return c == ' ' || c == '\t';
}

/* Eight bytes: goes on to the next line feed, and looks at the line behind it. */
static __always_inline long lines_step(struct search *s)
{
	__u32 line = line_behind(s, s->at);

	if (!line) {
		s->at += 8;
		return 0;
	}
	if (line >= s->length || line >= SCRATCH_BYTES || s->lines++ >= MOST_LINES)
		return 1;
	s->at = line;
	s->line = line;
	if (byte_at(s, line) == '\r' && line + 1 < s->length && byte_at(s, line + 1) == '\n')
		return 1; /* the body begins */
	if ((byte_at(s, line) | 0x20) != 't')
		return 0;
	s->at = line + 1;
	if (s->at < s->length && (byte_at(s, s->at) | 0x20) == 'o')
		s->at++;
	s->phase = LABEL;
	return 0;
}

/* One byte between the label and the colon. */
static __always_inline long label_step(struct search *s, __u8 c)
{
	if (is_blank(c)) {
		s->at++;
	} else if (c == ':') {
		s->at++;
		s->matched = 0;
		s->phase = VALUE;
	} else {
		s->at = s->line; /* another header */
		s->phase = LINES;
	}
	return 0;
}

/* One byte of To: a tag, or the end of a line that is not folded. */
static __always_inline long value_step(struct search *s, __u8 c)
{
	s->at++;
	if (c == '\n') {
		s->is_new = !(s->at < s->length && is_blank(byte_at(s, s->at)));
		return 1;
	}
	c |= 0x20;
	if (c == 't')
		s->matched = 1;
	else if (c == 'a' && s->matched == 1)
		s->matched = 2;
	else if (c == 'g' && s->matched == 2)
		return 1;
	else
		s->matched = 0;
	return 0;
}

static long step(__u32 i, struct search **of)
{
	struct search *s = *of;

	if (s->at >= s->length || s->at >= SCRATCH_BYTES)
		return 1;
	if (s->phase == LINES)
		return lines_step(s);
	if (s->phase == LABEL)
		return label_step(s, byte_at(s, s->at));
	return value_step(s, byte_at(s, s->at));
}

/* Methods that begin something outside a dialog, and the blank behind; eight bytes at once. */
static __always_inline int has_new_method(const struct search *s)
{
	__u64 word = word_at(s, 0);

	if (word == 0x4249524353425553ULL) /* SUBSCRIB */
		return byte_at(s, 8) == 'E' && byte_at(s, 9) == ' ';
	return word == 0x204547415353454dULL /* MESSAGE */ ||
	       word == 0x20534e4f4954504fULL /* OPTIONS */ ||
	       word == 0x204853494c425550ULL /* PUBLISH */ ||
	       (word & 0x00ffffffffffffffULL) == 0x0020455449564e49ULL /* INVITE */ ||
	       (word & 0x0000ffffffffffffULL) == 0x0000205245464552ULL /* REFER */;
}

/* The length, if it is one to look at, so that the verifier sees its bounds; else 0. */
static __always_inline __u32 readable(const struct __sk_buff *skb)
{
	__u32 length = skb->len - UDP_HEADER;

	/* A method, a line feed and To cannot be shorter. */
	if (skb->len < UDP_HEADER + 10)
		return 0;
	return length > SCRATCH_BYTES ? SCRATCH_BYTES : length;
}

SEC("socket")
int sieve(struct __sk_buff *skb)
{
	__u32 zero = 0, length = readable(skb);
	struct scratch *found = bpf_map_lookup_elem(&scratch, &zero);
	__u32 *keep = bpf_map_lookup_elem(&kept, &zero);
	__u64 *count = bpf_map_lookup_elem(&dropped, &zero);
	struct search *s;

	/* Datagrams the kernel has joined are kept together. */
	if (!length || !found || !keep || !count || skb->gso_segs > 1)
		return KEEP;
	if (bpf_get_prandom_u32() < *keep)
		return KEEP;
	length = within_scratch(length);
	if (bpf_skb_load_bytes(skb, UDP_HEADER, found->bytes, length))
		return KEEP;
	s = &found->search;
	__builtin_memset(s, 0, sizeof(*s));
	s->length = length;
	if (!has_new_method(s))
		return KEEP;
	bpf_loop(SCRATCH_BYTES, step, &s, 0);
	if (!s->is_new)
		return KEEP;
	*count += 1;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
