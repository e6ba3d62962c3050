/* SPDX-License-Identifier: Apache-2.0 */
/* bt_prog.h - random programs for the engines: a loop of a few rounds, so that later rounds find warm tables. RBX points
 * to data, R15 counts the rounds; the rest is anyone's. bt_prog*.c make them, bt_prog_run.c runs and compares. */
#ifndef TESTS_UNIT_CPU_BT_PROG_H
#define TESTS_UNIT_CPU_BT_PROG_H

#include "cpu/interp_rig.h"

enum {
	PROG_CODE_MAX = 3800,
	/* Bytes beyond RIG_DATA: three pages, the second elsewhere in memory, the third missing. */
	PROG_ODD = 0x8000, PROG_ODD_PAGE = RIG_DATA + 0xc000,
	/* Tables of prog_map_far(). */
	PROG_FAR_TABLES = 0x50000, N_PROG_FAR_TABLES = 6,
};

/* What a program has most of. */
enum prog_style { STYLE_INTEGER, STYLE_VEX, STYLE_FP, STYLE_MIXED, N_STYLES };

struct prog {
	uint64_t seed;
	enum prog_style style;
	uint64_t features;      /* of the host */
	bool is_user;           /* for CPL 3, where HLT, which ends it, faults */
	uint8_t code[PROG_CODE_MAX];
	unsigned n;
};

/* --- bt_prog.c --- */

void prog_make(struct prog *p, uint64_t seed, uint64_t features);
/* The same for CPL 3: with few privileged instructions. */
void prog_make_user(struct prog *p, uint64_t seed, uint64_t features);

/* For the parts of programs: a number below BELOW, a byte, four, a register that may be written. */
uint32_t prog_rnd(struct prog *p, uint32_t below);
void prog_put(struct prog *p, unsigned byte);
void prog_put32(struct prog *p, uint32_t v);
unsigned prog_any_reg(struct prog *p);
void prog_put_integer(struct prog *p);

/* --- bt_prog_memory.c: accesses of many kinds --- */

void prog_put_string(struct prog *p);
void prog_put_bit_string(struct prog *p);
void prog_put_derived(struct prog *p);
void prog_put_table(struct prog *p);

/* --- bt_prog_loop.c --- */

void prog_put_loop(struct prog *p);

/* --- bt_prog_vec.c: any row of the decode table --- */

void prog_put_fp(struct prog *p);
void prog_put_control(struct prog *p);
void prog_put_vex(struct prog *p);

/* --- bt_prog_run.c --- */

/* Pages of R as PROG_ODD says. */
void prog_map_odd(struct rig *r);
/* Where P ends by its last instruction. */
uint64_t prog_end(const struct prog *p);
/* For programs of users: all is 3 and 127 TiB further, too, and from 4 TiB less a page on are the pages of RIG_DATA. */
void prog_map_far(struct rig *r);
/* R is at the beginning of P. */
void prog_set(struct rig *r, const struct prog *p);
void prog_run(struct rig *r, const struct prog *p);
/* R and the state and memory of B must be those of A. */
void prog_compare(struct rig *a, struct rig *b, const struct prog *p);
/* C has its own floating-point environment back, whatever a program was doing. */
void prog_check_host_fp(void);

#endif
