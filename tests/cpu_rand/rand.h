/* SPDX-License-Identifier: Apache-2.0 */
/* rand.h - random user-mode programs, run by the real CPU in a child process (native.c) and by the engines
 * (guest.c), compared at every exception and at the end (main.c). Single instructions are cpu_diff's;
 * this is about what lies between them: jumps, calls, faults in the middle, code that changes.
 *
 * All see the same address space:
 *
 *	RAND_CODE   4 pages, all rights: programs change themselves
 *	DIFF_DATA   2 pages read-write, 1 page read-only; nothing before and after
 *	RAND_STACK  2 pages, RSP in the middle
 *
 * A program is a list of *pieces* (prog.c). After an exception it goes on with the next piece; it ends at
 * RAND_END, where HLT raises #GP. R15 counts loops, RSP is the stack; the rest is anyone's. */
#ifndef TESTS_CPU_RAND_RAND_H
#define TESTS_CPU_RAND_RAND_H

#include "../cpu_diff/diff.h"

#define RAND_CODE 0x10000000ull
#define RAND_STACK 0x30000000ull

enum {
	RAND_CODE_LEN = 0x4000, RAND_STACK_LEN = 0x2000, RAND_PIECES = 72, RAND_PIECE_MAX = 64, RAND_EVENTS = 48,
	RAND_BATCH = 512,
	RAND_KIND_KEPT = 14,            /* kinds from here on cannot be left out: ends */
};

struct rand_piece {
	uint8_t kind;
	bool is_removed;                /* by the shrinker */
	uint8_t to;                     /* piece that it jumps to, calls or changes */
	uint64_t seed;
	uint16_t at, len;               /* in the code, once laid out */
	uint8_t n_bytes, n_insns;       /* K_INSN: made once */
	uint8_t bytes[RAND_PIECE_MAX];
};

struct rand_prog {
	uint64_t seed;
	struct rand_piece piece[RAND_PIECES];
	unsigned n_insns;               /* generated */
	uint16_t start, end;            /* offsets in the code */
	struct diff_regs in;
	uint8_t code[RAND_CODE_LEN];
};

struct rand_event {
	uint8_t vector;
	uint32_t error;
	uint64_t cr2, rip, gpr[16];
};

struct rand_result {
	bool has_run;
	unsigned n_events;              /* the last one ended it */
	struct rand_event event[RAND_EVENTS];
	struct diff_regs out;
	uint8_t code[RAND_CODE_LEN], data[DIFF_RW_LEN], stack[RAND_STACK_LEN];
	uint64_t n_insns;               /* executed; interpreter only */
};

/* --- prog.c --- */

void rand_make(struct rand_prog *p, const struct diff_gen *g, uint64_t seed);
/* Code again, without what has been removed. */
void rand_lay_out(struct rand_prog *p);
/* Where to go on after an exception at RIP; 0: the program has ended. */
uint64_t rand_resume(const struct rand_prog *p, uint64_t rip);

/* --- native.c --- */

int rand_native_run(const struct rand_prog *progs, struct rand_result *results, unsigned n);

/* --- guest.c --- */

enum rand_engine { RAND_INTERP, RAND_BT, RAND_BT_STOPPED /* at random polls */, RAND_N_ENGINES };

struct rand_guest;
struct rand_guest *rand_guest_new(enum rand_engine engine);
void rand_guest_free(struct rand_guest *g);
void rand_guest_run(struct rand_guest *g, const struct rand_prog *p, struct rand_result *r);

#endif
