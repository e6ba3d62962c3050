/* SPDX-License-Identifier: Apache-2.0 */
/* translate.h - a fragment in the making: what translate.c and group.c share. */
#ifndef CPU_BT_TRANSLATE_H
#define CPU_BT_TRANSLATE_H

#include "cpu/bt/bt_priv.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };

enum {
	/* Between fragments these are in memory and the others in the host. */
	BOUNDARY_MEM = 1 << R10 | 1 << R11,
	BOUNDARY_HOST = 0xffff & ~BOUNDARY_MEM,
	MAX_GIVE_UP = 8,
};

struct tr_insn {
	struct x86_insn x;
	struct bt_effects fx;
	uint64_t va;
	const uint8_t *bytes;           /* in tr.code */
	uint16_t live;                  /* flags that someone reads after it */
	const struct tr_group *group;   /* its access is checked with others, or NULL */
	int32_t off;                    /* of its access, from the start of the group */
};

/* Accesses relative to one register that changes by constants only, if at all: the first one checks
 * them all, and a host register keeps the host address of the lowest. */
struct tr_group {
	uint8_t first, last;            /* instructions */
	uint8_t base, host;
	bool is_write;
	int32_t lo, hi;                 /* from the value of BASE before the first instruction */
};

/* A cold path: the jumps to it, and where registers are then. */
struct tr_cold {
	uint8_t *jump[MAX_GIVE_UP];
	unsigned n_jumps;
	uint16_t in_host, in_mem;
	const struct tr_insn *insn;
	struct bt_site *site;
};

struct tr {
	struct bt_cpu *b;
	struct bt_cache *k;
	struct emit e;
	struct bt_page *page;
	struct bt_frag *frag;
	uint64_t end;                   /* va after the last instruction */
	unsigned key, n, n_code, n_cold, n_links, n_groups;
	uint16_t in_host, in_mem;
	bool fl_host, fl_slot;
	bool uses_vec;
	unsigned now;                   /* the instruction being emitted */
	const struct tr_group *group;   /* that it lies in, or NULL */
	uint8_t *head_jump[2];          /* checks at the head that leave */
	uint8_t *vec_jump;
	uint32_t vec_back;
	/* Not cleared at the beginning. The guest may be rewriting its code: it is copied once, and all
	 * that follows looks at the copy. */
	uint8_t code[BT_FRAG_MAX * X86_INSN_MAX];
	struct tr_insn insn[BT_FRAG_MAX];
	struct tr_group groups[BT_FRAG_MAX];
	struct tr_cold cold[BT_FRAG_MAX];
	struct bt_link *links[BT_FRAG_MAX + 2];
};

/* One of the operands is AH, CH, DH or BH: no REX prefix may be added. */
bool tr_has_high_byte(const struct x86_insn *x);
/* Find the groups (after decoding). */
void tr_make_groups(struct tr *t);

#endif
