/* SPDX-License-Identifier: Apache-2.0 */
/* diff.h - differential test of the interpreter: one random instruction on random state, run by
 * the real CPU in a child process (native.c) and by the engine (guest.c), compared bit by bit
 * (main.c). gen.c makes the cases from the rows of the decode table.
 *
 * Both sides see the same user-mode address space:
 *
 *	DIFF_CODE   1 page, execute and read: int3 everywhere but for the instruction
 *	DIFF_DATA   2 pages read-write, 1 page read-only; nothing before and after */
#ifndef TESTS_CPU_DIFF_DIFF_H
#define TESTS_CPU_DIFF_DIFF_H

#include <stdbool.h>
#include <stdint.h>
#include "cpu/x86/insn.h"

#define DIFF_CODE 0x10000000ull
#define DIFF_START (DIFF_CODE + 0x800)
#define DIFF_DATA 0x20000000ull

enum {
	DIFF_RW_LEN = 0x2000, DIFF_DATA_LEN = 0x3000, DIFF_PATCH_MAX = 832, DIFF_BATCH = 512,
	DIFF_FX_LEN = 416, DIFF_YMMH_LEN = 256,
	DIFF_NO_VECTOR = 0xff,
};

struct diff_regs {
	uint64_t gpr[16], rip, rflags, fs_base, gs_base;
	uint8_t fx[DIFF_FX_LEN];        /* x87, MXCSR and XMM as FXSAVE64 lays them out */
	uint8_t ymmh[DIFF_YMMH_LEN];    /* upper halves of YMM */
};

struct diff_case {
	uint64_t seed;
	bool is_32;                     /* compatibility mode */
	bool is_valid;                  /* decodes; else #UD is expected */
	uint8_t code[X86_INSN_MAX];
	uint8_t len;
	struct x86_insn insn;           /* when is_valid */
	const struct x86_row *row;
	struct diff_regs in;
	uint64_t ea;                    /* of the memory operand or 0 */
	uint64_t patch_addr;            /* bytes that differ from diff_pattern() */
	uint16_t patch_len;
	uint8_t patch[DIFF_PATCH_MAX];
};

struct diff_result {
	struct diff_regs out;
	bool has_run;
	uint8_t vector;                 /* exception or DIFF_NO_VECTOR */
	uint32_t error;                 /* its error code */
	uint64_t cr2;
	uint8_t mem[DIFF_RW_LEN];
};

/* gen.c */
struct diff_gen {
	const struct x86_row **rows;    /* that may be tested */
	unsigned n_rows;
	bool use_32, has_avx;
};
/* Rows whose name contains NAME (NULL: all) that user mode and both sides can run. 0 or -ENOENT. */
int gen_init(struct diff_gen *g, const char *name);
void gen_fini(struct diff_gen *g);
void gen_case(const struct diff_gen *g, struct diff_case *c, uint64_t seed);
/* Bytes of the data pages before each case. */
void gen_pattern(uint8_t mem[DIFF_DATA_LEN]);

/* native.c: run CASES in a child; RESULTS is shared memory. -errno when the child broke down. */
int native_run(const struct diff_case *cases, struct diff_result *results, unsigned n);

/* accept.c: differences that are known, each with its reason. Make both sides equal; */
void diff_accept(const struct diff_case *c, struct diff_result *cpu, struct diff_result *interp);
/* is the outcome a processor's own? */
bool diff_is_moot(const struct diff_case *c, const struct diff_result *cpu, const struct diff_result *interp);

/* guest.c */
struct guest;
struct guest *guest_new(bool use_bt);    /* the translator, else the interpreter */
void guest_free(struct guest *g);
void guest_run(struct guest *g, const struct diff_case *c, struct diff_result *r);

#endif
