/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz.h - what the fuzz targets share: the input as a stream of values, and an assertion.
 *
 * A target is one file with LLVMFuzzerTestOneInput(). It consumes its input from the front
 * with the fuzz_*() functions below, which give zeroes when it is over, so that every input
 * means something and a longer one only adds to it. State from one input never reaches the
 * next: what a target keeps (guest memory) it wipes. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "util/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* A broken promise: the fuzzer keeps the input and shows where. */
#define FUZZ_CHECK(cond)                                                                        \
	do {                                                                                    \
		if (!(cond)) {                                                                  \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond);    \
			abort();                                                                \
		}                                                                               \
	} while (0)

struct fuzz {
	const uint8_t *at;
	size_t left;
};

/* Up to LEN bytes of the input, *GOT of them. */
static inline const uint8_t *fuzz_take(struct fuzz *f, size_t len, size_t *got)
{
	const uint8_t *p = f->at;

	*got = len < f->left ? len : f->left;
	f->at += *got;
	f->left -= *got;
	return p;
}

/* Fill BUF; what the input does not have is 0. */
static inline void fuzz_fill(struct fuzz *f, void *buf, size_t len)
{
	size_t got;
	const uint8_t *p = fuzz_take(f, len, &got);

	memset(buf, 0, len);
	if (got)
		memcpy(buf, p, got);
}

/* A number of SIZE bytes, little-endian. */
static inline uint64_t fuzz_num(struct fuzz *f, unsigned size)
{
	uint64_t v = 0;

	fuzz_fill(f, &v, size);
	return v;
}

static inline uint8_t fuzz_u8(struct fuzz *f) { return (uint8_t)fuzz_num(f, 1); }
static inline uint16_t fuzz_u16(struct fuzz *f) { return (uint16_t)fuzz_num(f, 2); }
static inline uint32_t fuzz_u32(struct fuzz *f) { return (uint32_t)fuzz_num(f, 4); }
static inline uint64_t fuzz_u64(struct fuzz *f) { return fuzz_num(f, 8); }

/* 1, 2, 4 or 8. */
static inline unsigned fuzz_size(struct fuzz *f) { return 1u << (fuzz_u8(f) & 3); }

/* What is left as a string of its own, without NULs inside; the caller frees it. */
static inline char *fuzz_text(struct fuzz *f)
{
	size_t got;
	const uint8_t *p = fuzz_take(f, f->left, &got);
	char *s = malloc(got + 1);

	FUZZ_CHECK(s);
	if (got)
		memcpy(s, p, got);
	s[got] = '\0';
	return s;
}

/* Time and randomness that only the input moves. */
struct fuzz_source {
	struct source s;
	uint64_t now_ns;
};

static inline uint64_t fuzz_source_now(struct source *s) { return ((struct fuzz_source *)s)->now_ns; }
static inline uint64_t fuzz_source_wall(struct source *s)
{
	return 1700000000000000000u + ((struct fuzz_source *)s)->now_ns;
}
static inline void fuzz_source_random(struct source *s, void *buf, size_t len) { memset(buf, 0xa5, len); }

static inline void fuzz_source_init(struct fuzz_source *s)
{
	*s = (struct fuzz_source){
		.s = { .now_ns = fuzz_source_now, .wall_ns = fuzz_source_wall, .tsc = fuzz_source_now,
		       .random = fuzz_source_random, .tsc_hz = 1000000000 },
		.now_ns = 1,
	};
}

#endif
