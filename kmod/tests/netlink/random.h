/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_TESTS_RANDOM_H
#define VIADUCT_TESTS_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

/* splitmix64, so that a seed repeats the run anywhere. */
struct random {
	uint64_t state;
};

static inline uint64_t next(struct random *r)
{
	uint64_t z = (r->state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* Less than @n, which is not 0. */
static inline uint32_t below(struct random *r, uint32_t n)
{
	return (uint32_t)(next(r) % n);
}

static inline bool one_in(struct random *r, uint32_t n)
{
	return below(r, n) == 0;
}

#endif
