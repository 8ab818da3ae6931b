/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A message copied to where it can be searched. Whoever includes this has a `struct search` before it, with
 * a `length` of the message and a place `at` in it.
 */
#ifndef VIADUCT_SCRATCH_H
#define VIADUCT_SCRATCH_H

#define SCRATCH_BYTES 2048
#define SCRATCH_MASK (SCRATCH_BYTES - 1)
#define EVERY_BYTE(c) (0x0101010101010101ULL * (c))

/*
 * What a search has found so far is kept in a map, of whose values the verifier assumes nothing. That of
 * Linux 6.1 looks at one step of a loop only, and would take what one step leaves on the stack for what
 * all of them do.
 */
struct scratch {
	__u8 bytes[SCRATCH_BYTES];
	__u8 past[8]; /* a step reads 8 bytes */
	struct search search;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/*
 * The same length, of 1 to SCRATCH_BYTES, so that the kernel's verifier sees these bounds: that of
 * Linux 6.1 learns nothing from a comparison with 0.
 */
static __always_inline __u32 within_scratch(__u32 length)
{
	length--;
	asm volatile("" : "+r"(length));
	return (length & SCRATCH_MASK) + 1;
}

static __always_inline const struct scratch *scratch_of(const struct search *s)
{
	return (const void *)s - __builtin_offsetof(struct scratch, search);
}

static __always_inline __u8 byte_at(const struct search *s, __u32 at)
{
	return scratch_of(s)->bytes[at & SCRATCH_MASK];
}

static __always_inline __u64 word_at(const struct search *s, __u32 at)
{
	__u64 word;

	__builtin_memcpy(&word, &scratch_of(s)->bytes[at & SCRATCH_MASK], sizeof(word));
	return word;
}

/* The place behind the next line feed, if it is among the eight bytes at @at; 0: it is not. */
static __always_inline __u32 line_behind(const struct search *s, __u32 at)
{
	__u64 word = word_at(s, at) ^ EVERY_BYTE('\n');
	__u64 odd = (word - EVERY_BYTE(0x01)) & ~word & EVERY_BYTE(0x80);

	/* The lowest mark is the first line feed. */
	return odd ? at + ((((odd & -odd) >> 7) * 0x0001020304050607ULL) >> 56) + 1 : 0;
}

#endif
