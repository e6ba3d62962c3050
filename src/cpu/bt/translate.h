/* SPDX-License-Identifier: Apache-2.0 */
/* translate.h - a fragment in the making: what the files of the translator share. Vcpu thread only.
 *
 * While emitting, the translator knows where each guest register is valid (`in_host`, `in_mem`) and
 * where the flags are (`fl_host`, `fl_slot`). A register in neither set is nowhere: it is about to
 * be written. */
#ifndef CPU_BT_TRANSLATE_H
#define CPU_BT_TRANSLATE_H

#include "cpu/bt/bt_priv.h"
#include "cpu/bt/describe.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };

enum {
	/* Between fragments these are in memory and the others in the host. */
	BOUNDARY_MEM = 1 << R10 | 1 << R11,
	BOUNDARY_HOST = 0xffff & ~BOUNDARY_MEM,
	N_SCRATCH = 16,
	MAX_GIVE_UP = 8,
	/* Operands that instructions have without naming them: in the host between instructions. */
	IMPLICIT = 1 << RAX | 1 << RCX | 1 << RDX | 1 << RBX,
};

struct tr_insn {
	struct x86_insn x;
	struct bt_effects fx;
	uint64_t va;
	const uint8_t *bytes;         /* in tr.code */
	uint16_t live;                /* flags that someone reads after it */
	const struct tr_group *group; /* its access is checked with others, or NULL */
	int32_t off;                  /* of its access, from the start of the group or page */
	uint8_t index, scale;         /* a register that is added to OFF, which the group allows for; or X86_NO_REG */
};

/* What an instruction does to memory: SIZE bytes at BASE + INDEX << SCALE + DISP. */
struct tr_access {
	uint8_t base, index, scale; /* registers before the instruction; X86_NO_REG: none */
	uint8_t size;
	uint8_t align;              /* bits of the address that must be 0 */
	bool is_write;
	int64_t disp;
};

/* Accesses to addresses that differ by constants: the first one checks them all and keeps the host
 * address of the lowest in a register, and in bt_cpu.group[] when that is needed for something else. Or
 * accesses to one page at addresses that are known now. */
struct tr_group {
	uint8_t first, last; /* instructions */
	uint8_t n;
	bool is_write; /* one of them */
	bool is_abs;
	bool is_ranged; /* an index is added to what has been checked */
	bool is_double; /* lies in two pages, as far as is known, and both are looked up */
	bool may_double; /* it would pay: there are more accesses than pages */
	uint16_t span; /* in bytes; not of the latter kind */
	uint8_t align, residue; /* ALIGN bits of the lowest address must be RESIDUE; not of the latter kind */
	uint64_t page; /* of the latter kind */
	/* It is of the unrolled turns of a loop and checked before all of them, from this address on: registers as
	 * they are there, X86_NO_REG: none. FIRST is no instruction. */
	bool is_ahead;
	uint8_t base, index, scale;
	int32_t lo;
};

/* A cold path: the jumps to it, and where registers are then. */
struct tr_cold {
	uint8_t *jump[MAX_GIVE_UP];
	unsigned n_jumps, n_checks;
	uint16_t in_host, in_mem;
	const struct tr_insn *insn;
	struct bt_site *site;
	uint32_t back;           /* where its site resumes after loading HOLDS; 0: not here */
	uint8_t held[N_SCRATCH];      /* before the check, and after the instruction: as tr.holds */
	uint8_t holds[N_SCRATCH];
	uint64_t stored;              /* before the check: as tr.stored */
	uint8_t s1, s2;               /* IS_ELSEWHERE: the address in a window and a free register */
	bool is_elsewhere;            /* no call-out: S1 is not in the region that was expected */
	bool is_ahead;                /* the check of a group that is ahead of its loop: it has no site */
};

/* Code beyond the fragment that it depends on: offset in its page, and the first N of BYTES. */
struct tr_look {
	uint16_t at;
	uint8_t n;
	uint8_t bytes[40];
};

enum { N_LOOKS = 24 };

struct tr {
	struct bt_cpu *b;
	struct bt_cache *k;
	struct emit e;
	struct bt_page *page;
	struct bt_frag *frag;
	unsigned word;                /* bytes that PUSH pushes: 8, or 4 in 32-bit code */
	uint64_t end; /* va after the last instruction */
	unsigned key, n, n_code, n_cold, n_links, n_groups, n_looks;
	struct bt_link *links;        /* before FRAG in the arena; the first n_links are in use */
	const uint8_t *page_bytes;    /* the guest's page, in its memory */
	uint16_t in_host, in_mem;
	bool fl_host, fl_slot;
	bool uses_vec, uses_x87;      /* x87 implies vectors */
	bool is_short;                /* the last that was decoded goes on in the next page */
	bool is_crossing;             /* one instruction that goes on in the next page, of which nothing is known */
	bool is_spanning;             /* one that is known to go on in TAIL */
	struct bt_tail tail;
	bool is_ymm_noted;            /* ymm_host is known to be up */
	unsigned now;                 /* the instruction being emitted */
	unsigned rax_at;              /* the register that holds RAX, which is not itself while flags are moved */
	struct tr_track *track;       /* describing, not translating; or NULL */
	uint64_t crossing[2];         /* instructions and groups whose table lay in two pages when this was translated */
	unsigned counted;             /* is_counting: instructions that n_insns has */
	bool is_split, has_head, may_loop, is_soft;     /* as in struct bt_frag */
	bool is_loop;                 /* first, that it is to be tried */
	unsigned n_turn, alone;       /* is_loop: instructions of a turn, and before the one that stands alone, see loop.c */
	uint8_t *alone_at;            /* where that begins */
	bool is_look;                 /* nothing is kept; it does not end where fragments begin */
	/* Check accesses together; for writing what is read first; tables as a whole. */
	bool may_group, may_promote, may_range;
	bool may_double;              /* look both pages up of what lies in two */
	/* Groups, plus 1, whose host addresses are in registers that hold nothing of the guest's; 0: none. */
	uint8_t holds[N_SCRATCH];
	uint64_t stored;              /* groups whose host addresses are in bt_cpu.group[], too: a bit for each */
	int32_t sp_owed;              /* what the guest's stack pointer is beyond the host's RSP */
	uint8_t *head_jump[4];        /* checks at the head that leave */
	unsigned n_head_jumps;
	uint8_t *vec_jump;
	uint32_t vec_back;
	/* Not cleared at the beginning. The guest may be rewriting its code: it is copied once, and
	 * all that follows looks at the copy. */
	uint8_t code[BT_FRAG_MAX * X86_INSN_MAX];
	struct tr_insn insn[BT_FRAG_MAX];
	struct tr_group groups[BT_FRAG_MAX];
	struct tr_cold cold[2 * BT_FRAG_MAX + 2];
	struct tr_look looks[N_LOOKS];
};

/* Are guest addresses host addresses when a constant has been added? Then accesses of groups have no checks, and
 * each of them may fault. */
static inline bool tr_is_window(const struct tr *t) { return t->page->policy == BT_POLICY_WINDOW && !t->is_soft; }

/* --- translate.c ---------------------------------------------------------------------------------
 */

/* The instruction at VA, of which N bytes are at P; false: they are none. */
bool tr_decode_one(struct tr *t, struct tr_insn *i, uint64_t va, const uint8_t *p, unsigned n);
bool tr_ends_fragment(const struct tr_insn *i);
/* Where I jumps to, and what follows it. */
uint64_t tr_branch_target(const struct tr_insn *i);
uint64_t tr_next(const struct tr *t, const struct tr_insn *i);
/* Flags that are live before instruction I. */
uint16_t tr_live_before(const struct tr_insn *i);

/* --- head.c ------------------------------------------------------------------------------------- */

/* T's head, which decides where T is entered, and its cold half. */
void tr_head(struct tr *t);
void tr_head_cold(struct tr *t);
/* What follows is entered with registers where they are between fragments, and what the fragment counts on. */
void tr_at_boundary(struct tr *t);

/* --- describe.c ---------------------------------------------------------------------------------- */

/* What has been emitted so far has left registers and flags where T says now. To be called after each host
 * instruction that moves some of the guest's, or that makes something else of the host's. */
void tr_note_place(struct tr *t);
void tr_note_access(struct tr *t);
static inline void tr_track(struct tr *t) { if (t->track) tr_note_place(t); }
/* The instruction being emitted has changed something of the guest's. */
static inline void tr_track_begun(struct tr *t) { if (t->track) t->track->has_begun = true, tr_note_place(t); }
/* The next host instruction may fault; nothing of the guest's instruction has happened. */
static inline void tr_track_access(struct tr *t) { if (t->track) tr_note_access(t); }
static inline void tr_track_rax(struct tr *t, unsigned reg) { t->rax_at = reg; tr_track(t); }
/* I comes next; NULL: what follows the last one. No more come. */
void tr_note_insn(struct tr *t, const struct tr_insn *i);
static inline void tr_track_insn(struct tr *t, const struct tr_insn *i) { if (t->track) tr_note_insn(t, i); }
static inline void tr_track_end(struct tr *t) { if (t->track) t->track->end = bt_code_off(t->k, t->e.p); }
/* Translate F once more with K as the cache, as it was; for TRACK. */
void bt_translate_again(struct bt_cpu *b, struct bt_cache *k, const struct bt_frag *f, struct tr_track *track);

/* --- span.c ------------------------------------------------------------------------------------ */

/* The instruction at VA, of which n_code bytes are in T's page, and which alone is to be T: the rest of its bytes to
 * T's code. False: they are not known, or it is none. */
bool tr_span(struct tr *t, uint64_t va);
/* Before it: see whether that is still so. */
void tr_check_tail(struct tr *t);
/* Bytes that it takes behind a fragment; putting it there, and back into T. */
size_t tr_tail_size(const struct tr *t);
void tr_tail_store(const struct tr *t, struct bt_frag *f);
void tr_tail_load(struct tr *t, const struct bt_frag *f);

/* --- look.c ------------------------------------------------------------------------------------ */

/* Flags that are live at VA, where T's fragment goes on. What has to be seen for that is kept in T. */
uint16_t tr_live_at(struct tr *t, uint64_t va);
/* Bytes that it takes behind a fragment, and putting it there. */
size_t tr_looks_size(const struct tr *t);
void tr_looks_store(const struct tr *t, struct bt_frag *f);
/* The page as it was when F was made, as far as its making depended on it; the rest is no code. */
void bt_frag_seen(const struct bt_frag *f, uint8_t page[4096]);

/* --- regs.c: registers ------------------------------------------------------------------------- */

/* See to it that REGS (a mask) are in the host. Flags stay. */
void tr_need(struct tr *t, uint16_t regs);
/* The host's REGS have new values of the guest's. */
void tr_wrote(struct tr *t, uint16_t regs);
/* The guest's register R goes to memory, the host's may be used. Flags stay. */
void tr_free(struct tr *t, unsigned r);
/* A host register to use freely, not of AVOID, which grows by it. There are enough for three beside
 * three operands, and all of them can be a base without special encoding. IS_LOW: usable without
 * REX; it may be one of IMPLICIT, which the caller puts back. */
unsigned tr_scratch(struct tr *t, uint16_t *avoid, bool is_low);
/* The host addresses of groups that REGS hold to bt_cpu.group[], unless no instruction from FROM on uses them. Flags
 * stay. */
void tr_keep_groups(struct tr *t, uint16_t regs, unsigned from);
/* Registers to where they are between fragments, given where they are. Flags stay. */
void tr_emit_boundary(struct emit *e, uint16_t in_host, uint16_t in_mem);
void tr_boundary(struct tr *t);

/* --- regs.c: flags ----------------------------------------------------------------------------- */

/* Flags into flags_ax, or from there into the host unless they are there already; TMP is free. */
void tr_save_flags(struct tr *t, unsigned tmp);
void tr_restore_flags(struct tr *t, unsigned tmp);
/* The host's flags are about to be lost: save them if someone from I on reads them. */
void tr_give_flags(struct tr *t, const struct tr_insn *i, unsigned tmp);
/* Does I have to find the flags in the host? Because it reads them, or keeps some that live on. */
bool tr_needs_host_flags(const struct tr_insn *i);
void tr_restore_for(struct tr *t, const struct tr_insn *i, unsigned tmp);
/* I has been emitted: the flags it writes are in the host. */
void tr_flags_after(struct tr *t, const struct tr_insn *i);

/* --- leave.c ----------------------------------------------------------------------------------- */

/* A new site for I, in the arena. */
struct bt_site *tr_site(struct tr *t, const struct tr_insn *i);
/* A cold path that takes I over with registers as they are now, and a jump to it on condition CC.
 */
struct tr_cold *tr_cold_new(struct tr *t, const struct tr_insn *i);
void tr_give_up_if(struct tr *t, struct tr_cold *c, unsigned cc);
/* The same for the check of a group that is ahead of its loop. */
struct tr_cold *tr_cold_ahead(struct tr *t);
/* The same for an address S1 that may be in another region of the window than code expects; S2 is free there. */
struct tr_cold *tr_cold_elsewhere(struct tr *t, unsigned s1, unsigned s2);
/* After the last instruction that C stands for: where its cold path comes back. */
void tr_resume_here(struct tr *t, struct tr_cold *c);
/* The jump of I whose displacement is at AT goes to VA. */
void tr_link(struct tr *t, const struct tr_insn *i, uint8_t *at, uint64_t va);
/* After the body: what the jumps above lead to. */
void tr_emit_cold(struct tr *t);
void tr_emit_exits(struct tr *t);

/* --- operand.c --------------------------------------------------------------------------------- */

/* S1 = the offset of I's memory operand in its segment. Flags stay. */
void tr_offset(struct tr *t, const struct tr_insn *i, unsigned s1);
/* S1 = its linear address. Flags may change when FS or GS is its segment. */
void tr_address(struct tr *t, const struct tr_insn *i, unsigned s1);
/* S1: from a linear to a host address of SIZE bytes within one page, or give up through C. Loses
 * the flags and S2. */
void tr_translate(struct tr *t, struct tr_cold *c, unsigned s1, unsigned s2, unsigned size,
		  bool is_write, bool is_aligned);
/* I's own bytes with its memory operand replaced by [BASE + OFF], a host address. */
void tr_copy_mem(struct tr *t, const struct tr_insn *i, unsigned base, int32_t off);
/* Registers that I has to find in the host: not those that only tell where a group is that has been
 * checked. */
uint16_t tr_reads(const struct tr *t, const struct tr_insn *i);
/* Registers of I that scratch must not be taken from. A destination that is only written and whose
 * old value lies in memory can serve. */
uint16_t tr_used(const struct tr *t, const struct tr_insn *i);
/* The register that holds the host address of I's group, i->off before that of its access. If I is the
 * group's first this checks all its accesses and loses the flags. AVOID grows by the register. */
unsigned tr_group_host(struct tr *t, const struct tr_insn *i, uint16_t *avoid);
/* The cold path of a tr_cold_elsewhere(). */
void tr_window_elsewhere(struct tr *t, const struct tr_cold *c);
/* Check G, which is ahead of its loop. Loses the flags. */
void tr_group_ahead(struct tr *t, const struct tr_group *g);

/* --- insn.c, branch.c: one instruction each ---------------------------------------------------- */

void tr_copy(struct tr *t, const struct tr_insn *i);
/* RSP = FROM + BY, in the width of the stack pointer. */
void tr_move_sp(struct tr *t, unsigned from, int32_t by);
/* RSP += BY, in the width of the stack pointer; it may be owed, to be added later with what other instructions add. */
void tr_add_sp(struct tr *t, int32_t by);
/* Before I, or NULL: before what leaves the fragment: add what is owed unless I can do without. */
void tr_settle_sp(struct tr *t, const struct tr_insn *i);
void tr_lea_rip(struct tr *t, const struct tr_insn *i);
void tr_push(struct tr *t, const struct tr_insn *i);
/* POP and LEAVE: *reg = [from]; rsp = from + 8. */
void tr_pop(struct tr *t, const struct tr_insn *i, unsigned reg, unsigned from);
void tr_clear_rflag(struct tr *t, const struct tr_insn *i);
void tr_div(struct tr *t, const struct tr_insn *i);
void tr_idiv(struct tr *t, const struct tr_insn *i);
void tr_call_out(struct tr *t, const struct tr_insn *i);
void tr_jcc(struct tr *t, const struct tr_insn *i);
void tr_call(struct tr *t, const struct tr_insn *i);
void tr_ret(struct tr *t, const struct tr_insn *i);
void tr_jump_indirect(struct tr *t, const struct tr_insn *i);
/* An instruction of which only the beginning is known: the interpreter runs it, whatever it is. */
void tr_crossing(struct tr *t, const struct tr_insn *i);
/* To the fragment at R10 of another page or key through the table; flags are in the slot. The site that it leaves
 * behind, if any, says whether it is a return, too. */
void tr_indirect(struct tr *t, unsigned key, bool is_return);

/* --- loop.c ------------------------------------------------------------------------------------- */

/* Has it been decided that what begins at VA is to be unrolled? Once. */
bool tr_is_wanted_loop(const struct tr *t, uint64_t va);
/* Is I, of T's code, the jump to its beginning? */
bool tr_is_turn(const struct tr *t, const struct tr_insn *i);
/* Could what has been decoded be unrolled? */
bool tr_may_loop(const struct tr *t);
/* T, which ends with the jump to its beginning, becomes several turns, with their groups. False: that would gain nothing,
 * and T is what it was. */
bool tr_unroll(struct tr *t);
/* Before the first turn, and before the one that stands alone. */
void tr_loop_start(struct tr *t);
void tr_loop_alone(struct tr *t);
/* The jump I at the end of each. */
void tr_turn(struct tr *t, const struct tr_insn *i);

/* --- system.c, ring.c: BT_SYSTEM, BT_SYSTEM_END ---------------------------------------------------- */

void tr_system(struct tr *t, const struct tr_insn *i);
void tr_system_end(struct tr *t, const struct tr_insn *i);

/* --- x87.c ------------------------------------------------------------------------------------------------ */

void tr_x87(struct tr *t, const struct tr_insn *i);
void tr_load_control(struct tr *t, const struct tr_insn *i);

/* --- string.c ---------------------------------------------------------------------------------- */

void tr_string(struct tr *t, const struct tr_insn *i);
void tr_bit_string(struct tr *t, const struct tr_insn *i);

/* --- vex.c ------------------------------------------------------------------------------------- */

/* Before and after I, keep ymm_host. Flags stay. */
void tr_vex_before(struct tr *t, const struct tr_insn *i);
void tr_vex_after(struct tr *t, const struct tr_insn *i);
/* Does X, of 32-bit code, whose bytes are at P, mean the same in 64-bit code? There, W and the highest bits
 * of registers are not ignored. */
bool tr_vex_is_same_32(const struct x86_insn *x, const uint8_t *p);
/* The VEX prefix at P for a memory operand that is BASE and perhaps INDEX; returns what follows it. */
const uint8_t *tr_vex_prefix(struct emit *e, const uint8_t *p, unsigned base, unsigned index);

/* --- access.c ---------------------------------------------------------------------------------- */

/* One of the operands is AH, CH, DH or BH: no REX prefix may be added. */
bool tr_has_high_byte(const struct x86_insn *x);
/* The access of I that can be in a group; false: none. */
bool tr_access_of(const struct tr *t, const struct tr_insn *i, struct tr_access *a);

/* --- group.c ----------------------------------------------------------------------------------- */

/* Of I, the first of its group: what its check computes, without the index that the group allows for. */
void tr_group_access(const struct tr *t, const struct tr_insn *i, struct tr_access *a);
/* Find the groups (after decoding). */
void tr_make_groups(struct tr *t);

/* --- range.c ----------------------------------------------------------------------------------- */

#define TR_ANY UINT64_MAX

/* The largest value that X, copied, leaves in the register that it writes (of 4 or 8 bytes), by what the
 * registers could have been before: TR_ANY when nothing is known. */
uint64_t tr_range_of_copy(const uint64_t *max, const struct x86_insn *x);

#endif
