/* SPDX-License-Identifier: Apache-2.0 */
/* window_rig.h - user code on the translator, in a window, and beside it on the interpreter: what it ends with must be the same.
 *
 * Both machines are rigs with these pages besides: */
#ifndef TESTS_UNIT_CPU_WINDOW_RIG_H
#define TESTS_UNIT_CPU_WINDOW_RIG_H

#include "cpu/interp_rig.h"

#define TIB (1ull << 40)

enum {
	WR_READ_ONLY = RIG_DATA + 0x2000, WR_MISSING = RIG_DATA + 0x4000, WR_READ_ONLY_2 = RIG_DATA + 0x6000,
	WR_SUPER = RIG_DATA + 0x7000,   /* not for users */
	WR_PAGES = 16,                  /* of RIG_DATA; all others are there */
	WR_TARGET = RIG_CODE + 0x800,   /* HLT; its address is what data consists of */
	WR_USER_CS = 24 | 3, WR_USER_SS = 32 | 3,
	/* Tables: of the page before 4 TiB, and before the end of the lower half; of those behind it. */
	WR_TABLES = 0x50000, WR_N_TABLES = 6,
};

struct window_rig {
	struct rig interp, bt;
	void *stack;
};

/* Code in this program. */
struct code {
	const uint8_t *from, *to;
};

/* *CODE is TEXT, in Intel's syntax. */
#define ASSEMBLE(code, text)                                                                                            \
	__asm__("lea 1f(%%rip), %0\n\tlea 2f(%%rip), %1\n\tjmp 2f\n1:\n\t.intel_syntax noprefix\n\t" text              \
		"\n\t.att_syntax prefix\n2:" : "=r"((code)->from), "=r"((code)->to))

/* The window is open, for the first TiB. */
void window_rig_init(struct window_rig *w);
/* With so many processors, of which R's is the first. */
void window_rig_init_with(struct window_rig *w, unsigned n_vcpus);
/* R's processor is a user's. */
void user_start(struct rig *r);
void window_rig_fini(struct window_rig *w);
/* Code of users is to run on R from RIG_CODE on, HLT behind it, with these in RBX and RSP. Data is as it was in the beginning. */
void user_set(struct rig *r, const struct code *code, uint64_t rbx, uint64_t rsp);
/* Go on with R, on either engine, until a fault or HLT, which is one for users. */
struct icpu_event user_run(struct rig *r);
/* The same of what runs as a kernel, from RIG_CODE + 0x1000 on, to its HLT; then R is as it was before, but for what is no register. */
void kernel_run(struct rig *r, const struct code *code);
/* Both have ended the same way, with EA and EB. IS_LOOSE: what is in memory is the same if it was not by a fault before the end.
 * WHAT is for messages. */
void window_rig_compare(struct window_rig *w, const struct icpu_event *ea, const struct icpu_event *eb, bool is_loose, const char *what);

#endif
