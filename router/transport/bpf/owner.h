/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which worker owns a SIP message. The same rule as `router/engine/src/shard.rs`, which is the
 * second judge: a wrong answer here costs a hand-over between workers, nothing else.
 *
 * The message has been copied to `scratch.bytes`. Only its first SCRATCH_BYTES are looked at: where
 * the header that decides comes later, nobody is named.
 */
#ifndef VIADUCT_OWNER_H
#define VIADUCT_OWNER_H

/* Nobody is named; any worker will do. */
#define NOBODY 0xffffffffU

/* Bytes of a Call-ID line that are hashed. */
#define HASHED_BYTES 128
#define FNV_START 0xcbf29ce484222325ULL
#define FNV_PRIME 0x00000100000001b3ULL
#define SPREAD 0x9e3779b97f4a7c15ULL

/* Layout of our branch: router/engine/src/transaction/branch.rs. */
#define BRANCH_LEN 42
#define BRANCH_VERSION_AT 7
#define BRANCH_WORKER_AT 8

enum wanted { CALL_ID, VIA };

struct search {
	__u32 length;
	__u32 at;
	__u32 wanted;
	__u32 owner;
	/* Of the line being read. */
	__u32 colon;
	__u32 taken;
	__u64 hash;
	__u32 done;
	__u32 matched; /* bytes of "branch=" seen */
	__u32 branch_length;
	__u32 seen; /* bytes of the branch with what may be trimmed */
	__u32 version;
	__u32 high;
	__u32 low;
};

#include "scratch.h"

static __always_inline int is_blank(__u8 c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f';
}

static __always_inline __u32 hex(__u8 c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return NOBODY;
}

/* Between label and colon: blanks. Says whether the line is still the wanted one. */
static __always_inline int before_colon(struct search *s, __u8 c)
{
	if (c == ':')
		s->colon = 1;
	else if (c == '\n' || !is_blank(c))
		return 0;
	return 1;
}

/* One byte of the Call-ID line: blanks count for the limit, but not for the hash. */
static long call_id_step(__u32 i, struct search **of)
{
	struct search *s = *of;
	__u8 c;

	if (s->at >= s->length || s->at >= SCRATCH_BYTES)
		return 1;
	c = byte_at(s, s->at++);
	if (!s->colon)
		return !before_colon(s, c);
	if (c == '\n') {
		s->done = 1;
		return 1;
	}
	if (s->taken < HASHED_BYTES && !is_blank(c)) {
		s->hash ^= c;
		s->hash *= FNV_PRIME;
	}
	s->taken++;
	return 0;
}

static __always_inline void branch_byte(struct search *s, __u8 c)
{
	if (s->seen == BRANCH_VERSION_AT)
		s->version = c;
	else if (s->seen == BRANCH_WORKER_AT)
		s->high = hex(c);
	else if (s->seen == BRANCH_WORKER_AT + 1)
		s->low = hex(c);
	s->seen++;
	if (!is_blank(c))
		s->branch_length = s->seen;
}

/* One byte of the Via line: looks for the first parameter `branch` of the first value. */
static long via_step(__u32 i, struct search **of)
{
	struct search *s = *of;
	__u8 c, wanted;

	if (s->at >= s->length || s->at >= SCRATCH_BYTES)
		return 1;
	c = byte_at(s, s->at++);
	if (!s->colon)
		return !before_colon(s, c);
	if (c == '\n') {
		s->done = 1;
		return 1;
	}
	if (s->taken) /* decided; only the end of the line is missing */
		return 0;
	if (c == ',' || (c == ';' && s->matched == 7)) {
		s->taken = 1;
		return 0;
	}
	if (s->matched == 7) {
		branch_byte(s, c);
		return 0;
	}
	if (c == ';') {
		s->matched = 0;
		return 0;
	}
	if (s->matched == 0 && is_blank(c))
		return 0;
	switch (s->matched) {
	case 0: wanted = 'b'; break;
	case 1: wanted = 'r'; break;
	case 2: wanted = 'a'; break;
	case 3: wanted = 'n'; break;
	case 4: wanted = 'c'; break;
	case 5: wanted = 'h'; break;
	case 6: wanted = '='; break;
	default: return 0; /* another parameter */
	}
	if (c == wanted || (wanted != '=' && (c | 0x20) == wanted))
		s->matched++;
	else
		s->matched = 8;
	return 0;
}

static __always_inline void read_line(struct search *s, __u32 label_end)
{
	s->at = label_end;
	s->colon = 0;
	s->taken = 0;
	s->done = 0;
	if (s->wanted == CALL_ID) {
		s->hash = FNV_START;
		bpf_loop(SCRATCH_BYTES, call_id_step, &s, 0);
	} else {
		s->matched = 0;
		s->seen = 0;
		s->branch_length = 0;
		s->high = s->low = NOBODY;
		bpf_loop(SCRATCH_BYTES, via_step, &s, 0);
	}
}

/* Bytes of the wanted label at the start of a line, in either form and any case; 0: not there. */
static __always_inline __u32 label_length(const struct search *s, __u32 line)
{
	__u64 word = word_at(s, line);

	if (s->wanted == CALL_ID) {
		/* No 0x20 on the hyphen: it would make one of CR. */
		__u64 folded = word | 0x0020200020202020ULL;

		if ((folded & 0x00ffffffffffffffULL) == 0x0064692d6c6c6163ULL) /* call-id */
			return 7;
		return ((word | 0x20) & 0xff) == 'i' ? 1 : 0;
	}
	if (((word | 0x202020) & 0xffffff) == 0x616976) /* via */
		return 3;
	return ((word | 0x20) & 0xff) == 'v' ? 1 : 0;
}

/* Eight bytes: goes on to the next line feed, and looks at the line behind it. */
static long line_step(__u32 i, struct search **of)
{
	struct search *s = *of;
	__u32 line, label;

	if (s->at >= s->length || s->at >= SCRATCH_BYTES)
		return 1;
	line = line_behind(s, s->at);
	if (!line) {
		s->at += 8;
		return 0;
	}
	if (line >= s->length || line >= SCRATCH_BYTES)
		return 1;
	s->at = line;
	if (byte_at(s, line) == '\n')
		return 1;
	if (byte_at(s, line) == '\r' && line + 1 < s->length && byte_at(s, line + 1) == '\n')
		return 1;
	label = label_length(s, line);
	if (!label)
		return 0;
	read_line(s, line + label);
	if (s->colon || s->at >= s->length || s->at >= SCRATCH_BYTES)
		return 1;
	s->at = line;
	return 0;
}

/* The owner of the message in the scratch space, NOBODY where it doesn't say. */
static __always_inline __u32 owner_of(struct scratch *bytes, __u32 length, __u32 workers)
{
	struct search *s = &bytes->search;
	__u32 worker;

	if (workers <= 1)
		return 0;
	__builtin_memset(s, 0, sizeof(*s));
	s->length = length;
	/* "SIP/2.0 " */
	s->wanted = word_at(s, 0) == 0x20302e322f504953ULL && length >= 8 ? VIA : CALL_ID;
	bpf_loop(SCRATCH_BYTES, line_step, &s, 0);
	if (!s->done)
		return NOBODY;
	if (s->wanted == CALL_ID)
		return ((((s->hash * SPREAD) >> 32) * workers) >> 32) & 0xff;
	if (s->matched != 7 || s->branch_length != BRANCH_LEN || s->version != '1')
		return NOBODY;
	if (s->high == NOBODY || s->low == NOBODY)
		return NOBODY;
	worker = s->high << 4 | s->low;
	return worker < workers ? worker : NOBODY;
}

#endif
