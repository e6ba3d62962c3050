/* SPDX-License-Identifier: Apache-2.0 */
/* bt_priv.h - what the files of the translator share; docs/design/bt.md explains the model.
 *
 * A *fragment* is the translation of up to BT_FRAG_MAX guest instructions that follow each other in
 * one page. In it the guest's general registers are the host's own, RSP included; GS is the base of
 * struct bt_cpu. Between fragments R10 and R11 lie in memory, and the host's are scratch.
 *
 * Owner: the vcpu's thread owns all of struct bt_cpu but the queue. Nothing here is shared between
 * vcpus: each has its own cache. */
#ifndef CPU_BT_BT_PRIV_H
#define CPU_BT_BT_PRIV_H

#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include "cpu/bt/emit.h"
#include "cpu/interp/core.h"

enum {
	BT_FRAG_MAX = 63,               /* guest instructions; a conditional jump from */
	BT_FRAG_JUMPS = 40,             /* so many on is the last */
	BT_IND_BITS = 16,
	/* Memory of a processor for translations; cache.c divides it. */
	BT_CACHE_BYTES = 64 << 20,
	BT_CACHE_MIN = 1 << 20, BT_CACHE_MAX = 1 << 30,
	/* Code is emptied by regions, as many as there may be of this size. */
	BT_REGION_BYTES = 1 << 20, BT_MIN_REGIONS = 4, BT_MAX_REGIONS = 16,
	BT_LARGE_PAGE = 2 << 20,
	BT_BLOCK_SHIFT = 10,
	BT_HASH_BITS = 18,
	BT_FRAG_CODE_ROOM = BT_FRAG_MAX * 512,
	BT_FRAG_ARENA_ROOM = BT_FRAG_MAX * 320,
	BT_ARENA_FIRST = 64,            /* offset 0 stands for nothing */
	BT_QUEUE = 32,
	BT_SEEN_BITS = 16,
	BT_PATIENCE = 2,
	BT_LOOP_PATIENCE = 4096,
	BT_UNWRITTEN = 16,
};

/* What a translation depends on besides its bytes and addresses. The low bits are icpu_priv(). */
enum bt_key {
	BT_KEY_USER = 1, BT_KEY_AC = 2, BT_KEY_PRIV = 3,
	/* What of floating point and vectors may run natively, because it is on and can raise no
	 * exception. Each has all before it. */
	BT_KEY_FP = 3 << 2,
	BT_KEY_SSE = 1 << 2, BT_KEY_X87 = 2 << 2 /* and MMX */, BT_KEY_AVX = 3 << 2,
	/* 32-bit code, with CS, SS, DS and ES flat: base 0, the whole 4 GiB. FS or GS may be used too, whatever
	 * its base. */
	BT_KEY_32 = 1 << 4, BT_KEY_FS = 1 << 5, BT_KEY_GS = 1 << 6,
	BT_N_KEYS = 1 << 7,
	BT_NO_KEY = BT_N_KEYS,          /* what runs now cannot be translated */
};

/* How a fragment turns guest addresses into host addresses. It is part of what a fragment is keyed by, beside its
 * enum bt_key and where its code lies: code for one policy never links to code for another. */
enum bt_policy {
	BT_POLICY_SOFT,                 /* through struct itlb_inline */
	BT_POLICY_IDENT,                /* guest user address = host address, in a process of its own */
	BT_POLICY_WINDOW,               /* guest user address + what its region says = host address, see window.c */
	BT_N_POLICIES,
};

/* What code counts on finding in the host: vector registers, ymm_host up, x87 registers. The latter two
 * go with the first. */
enum bt_vec { BT_VEC_NONE = 0, BT_VEC_XMM = 1, BT_VEC_YMM = 2, BT_VEC_X87 = 4 };

/* Of groups that do not pay: each access is checked; nothing is checked for writing that is read first; no
 * table is checked as a whole. First of all it is tried to look up both pages of what lies in two. And of loops, that none
 * is unrolled, which struct bt_frag's LESS need not tell; of code in a window, that it checks its accesses as all other does. */
enum bt_less { BT_LESS_GROUPS, BT_LESS_WRITES, BT_LESS_TABLES, BT_LESS_PAGES, BT_LESS_LOOPS, BT_LESS_WINDOW, BT_N_LESS };

/* Why code in a window has left: a page that cannot be mapped just so; something else, a place without a region for one. */
enum bt_fault { BT_FAULT_NONE, BT_FAULT_PAGE, BT_FAULT_ELSEWHERE };

/* Guest code at one linear page in one physical page. */
struct bt_page {
	uint64_t va, page;              /* linear address; number in the memfd */
	uint8_t key;
	uint8_t policy;                 /* enum bt_policy */
	uint32_t id;                    /* odd; what struct itlb_inline holds. 0: it stands for nothing, in free_pages */
	struct bt_page *next_va, *next_page;    /* in the hash chains, or in free_pages */
	uint32_t frags;                 /* the first */
	uint32_t gen;                   /* of the physical page, not newer than any of frags */
	/* By enum bt_less: a bit for each 64th of the page whose fragments have less of groups. */
	uint64_t less[BT_N_LESS];
	/* Bits: a jump goes to this byte. */
	uint64_t starts[64];
	/* A bit for each 8 bytes: a fragment that begins there is wanted with its whole head. */
	uint64_t heads[8];
};

/* A jump leads to VA in P: what is translated from here on ends there. Not for places where the guest comes back from
 * an interrupt or a fault: one in a loop would split it for good. */
static inline void bt_start_note(struct bt_page *p, uint64_t va) { p->starts[va >> 6 & 63] |= 1ull << (va & 63); }
static inline void bt_head_note(struct bt_page *p, uint64_t va) { p->heads[va >> 9 & 7] |= 1ull << (va >> 3 & 63); }
static inline bool bt_head_noted(const struct bt_page *p, uint64_t va)
{
	return p->heads[va >> 9 & 7] >> (va >> 3 & 63) & 1;
}

/* Entries are IENTRY, an offset in the code cache, and what the others are behind it; one after the other:
 *	ientry  from indirect jumps: R10 is the target, flags are in flags_ax; checks R10
 *	xentry  from another page, flags in the host; saves flags if they are live
 *	lentry  from another page or the dispatcher: checks that the page is still mapped here
 *	ventry  loads vector and x87 registers if it uses them and they are not in the host
 *	entry   polls
 *	body
 * What only jumps forward in its page and the dispatcher lead to (!has_head) does without all that is checked
 * and polled, and cannot be entered at IENTRY.
 * What it and struct bt_link refer to in the arena they name by its offset there; 0: none. */
struct bt_frag {
	uint64_t va;
	struct bt_page *page;
	uint32_t next_hash, next_page;  /* fragments */
	uint32_t in;                    /* the first link that has been made to it */
	uint32_t crossing;              /* tr.crossing, what its making depended on beside all this; 0: of zeroes */
	uint32_t ientry;
	uint32_t older;                 /* the fragment made before it in the same region */
	uint32_t failing_since;         /* by the host's TSC, in units of engine.c's or window.c's */
	uint16_t n_bytes;
	uint16_t live_flags;            /* at its start */
	uint8_t xentry, lentry, ventry, entry, body;
	uint8_t vec;                    /* enum bt_vec flags that ENTRY and what follows count on; not BT_VEC_YMM */
	bool needs_flags : 1;           /* some of live_flags are */
	bool has_head : 1;
	bool is_split : 1;              /* checks each access; only what has failed goes to it, see bt_find_split() */
	bool is_gone : 1;               /* nothing leads to it, and its page may be another */
	bool is_spanning : 1;           /* one instruction that goes on in the next page; see struct bt_tail */
	bool may_loop : 1;              /* jumps to its beginning; at its head it counts how often that is, see loop.c */
	bool is_loop : 1;               /* several turns of such a loop */
	bool is_soft : 1;               /* its page is for a window, and it does without */
	uint8_t n_looks;
	uint8_t n_links;                /* before it in the arena, see bt_frag_links() */
	uint8_t n_failures : 4;         /* of its groups' checks since failing_since, or in a window of its accesses */
	uint8_t less : 4;               /* of groups: a bit for each enum bt_less that it was made with */
	/* The code it was made from; then, N_LOOKS times, what else was looked at (look.c). IS_SPANNING: instead of that up
	 * to X86_INSN_MAX bytes altogether, which are from the next page, and struct bt_tail. */
	uint8_t bytes[];
};
_Static_assert(offsetof(struct bt_frag, bytes) <= 58, "there are many");

/* Where an instruction goes on in the next page. Its code looks whether that is still so, and whether the bytes are. */
struct bt_tail {
	uint64_t page;                  /* number in the memfd */
	uint32_t id;                    /* of struct bt_page */
};

static inline uint32_t bt_body(const struct bt_frag *f) { return f->ientry + f->body; }

enum bt_link_kind { BT_LINK_FORWARD, BT_LINK_BACKWARD, BT_LINK_PAGE };

/* A direct jump out of a fragment. */
struct bt_link {
	uint64_t va;
	uint32_t next_in;               /* another to the same fragment */
	uint32_t to;                    /* fragment; 0: goes to its exit */
	uint32_t at : 30;               /* of the 32-bit displacement */
	uint32_t kind : 2;              /* enum bt_link_kind */
	uint32_t exit : 30;
	uint32_t has_slot : 1;          /* flags are in flags_ax when it is taken (else in the host) */
	uint32_t has_vec : 1;           /* vector registers are in the host then */
};
_Static_assert(sizeof(struct bt_link) == 24 && BT_CACHE_MAX <= 1 << 30, "there are many");

/* A place where the interpreter can take over for one instruction. There is one for each that accesses
 * memory, and few are ever used: what the interpreter needs is made when it is first needed. */
struct bt_site {
	uint32_t frag;                  /* in the arena: that it lies in */
	uint32_t op;                    /* struct iop in the arena; 0: none yet */
	uint32_t retry;                 /* where the instruction begins: its check is worth another try */
	uint32_t resume;                /* where to go on when the next instruction is the next; 0: leave */
	uint32_t off : 12;              /* of the instruction in the fragment */
	uint32_t len : 4;               /* of the instruction; 0: it goes on in the next page */
	uint32_t span : 12;             /* see below; 0: it checks no group */
	uint32_t mine_scale : 2;
	uint32_t is_return : 1;         /* RET; of indirect jumps */
	uint8_t vec : 3;                /* enum bt_vec flags, on resuming */
	uint8_t miss : 3;               /* enum bt_miss: of its only check, or of a string's */
	uint8_t scale : 2;
	int8_t behind;                  /* instructions of the fragment before it, less those in n_insns by then */
	/* It checks a group of accesses: SPAN bytes, of which the instruction's own begin at MINE, from
	 * register BASE plus INDEX << SCALE plus LO on. It resumes by checking them once more. */
	uint8_t base, index;            /* X86_NO_REG: none */
	bool is_abs : 1;                /* LO is counted from the fragment's page */
	bool is_write : 1, wants_write : 1;     /* the instruction; the group */
	bool is_aligned : 1;            /* the instruction wants alignment, and says so before the page is looked up */
	bool is_misaligned : 1;         /* it stands for a group whose alignment is wrong */
	bool is_ranged : 1;             /* the group is a table, and an index is added to MINE: */
	bool is_double : 1;             /* it lies in two pages, which have to follow each other in the host */
	bool may_double : 1;            /* it would pay to look both up */
	uint8_t mine_index;             /* X86_NO_REG: none */
	uint16_t mine;
	int32_t lo;
};
_Static_assert(sizeof(struct bt_site) == 32, "there are many");

/* What a check leaves behind that has found no entry: how far the address is beyond the tag of the
 * entry in one register, where that is in the table in the other. */
enum bt_miss {
	BT_MISS_KNOWN = 1,              /* they are R10 and R11; else nothing is known */
	BT_MISS_R11 = 2,                /* the address is in R11 */
	BT_MISS_WRITE = 4,
	/* Or it is of a string instruction: it reads at BASE, and reads or writes (is_write) at INDEX. */
	BT_MISS_STRING = 6,
};

/* An x87 instruction. */
struct bt_x87_note {
	uint64_t fip;
	uint16_t fop;
};

struct bt_queue {
	pthread_mutex_t lock;           /* guards all */
	unsigned n;
	bool is_full;                   /* more than fit: assume everything */
	struct { uint64_t page; bool is_new; } item[BT_QUEUE];  /* is_new: began to hold code */
};

struct bt_cpu {
	struct icpu i;
	/* read and written by translated code and thunks */
	struct bt_cpu *self;
	uint64_t host_rsp;
	const uint8_t *target;          /* where bt_enter goes, where a call-out resumes */
	uint32_t flags_ax;              /* guest flags: AH as LAHF has them, AL = OF */
	uint32_t exit_link;             /* arena offset of the link that was taken; 0: none */
	uint32_t exit_frag;             /* of the fragment whose head code has left from; 0: none */
	uint32_t site;                  /* arena offset of the site calling out, or of the last indirect jump */
	uint32_t host_mxcsr;
	uint64_t scratch[2];            /* R10 and R11 as a check has left them */
	uint8_t vec_live;               /* guest vector registers and MXCSR are in the host's */
	uint8_t want_vec;               /* on resuming: load them; enum bt_vec flags */
	uint8_t ymm_host, ymm_mem;      /* an upper half is not zero there, see vec.c */
	uint8_t x87_live;               /* x87 and MMX registers are in the host's; only while vec_live */
	uint32_t x87_note;              /* arena offset of struct bt_x87_note: what FIP and FOP are to be; or 0 */
	uint32_t control;               /* an MXCSR or FCW on its way to the host */
	uint8_t exit_indirect;          /* left through an empty slot of ind[] */
	uint64_t group[BT_FRAG_MAX];    /* host addresses, while a fragment runs */
	int32_t fuel;                   /* is_checked: polls until code leaves; below 0: it has left */
	int32_t loop_turns, loop_failures;      /* likewise: of loops that may be unrolled; that the checks of one that is fail */
	uint64_t n_insns;               /* is_counting: instructions completed by code; exact in C */
	const uint8_t *ind[BT_N_KEYS][1 << BT_IND_BITS];        /* filled in for those that are used */
	/* not seen by code */
	struct bt_cache *cache;
	struct bt_scratch *describing;  /* describe.c */
	struct bt_queue queue;
	bool ind_used[BT_N_KEYS];
	uint8_t exit_why;               /* enum cpu_code_exit: what bt_call_out() has left for */
	struct bt_frag *split;          /* groups do not pay: to be translated with less of them */
	enum bt_less split_how;
	uint64_t unwritten[BT_UNWRITTEN];       /* pages, by their numbers, of which groups could read but not write */
	struct iop spare_op;            /* of a site, when the arena has no room for it */
	bool has_windows;               /* user code may have one */
	bool keeps_windows;             /* whatever faults cost; for tests */
	enum bt_fault fault;            /* window.c: code has left by a fault, and the interpreter runs the next instruction */
	bool fault_is_write;
	uint64_t fault_la, fault_rip;   /* of the last in a page; 0: the guest has gone on since */
	uint8_t patience;               /* how often code is interpreted before it is translated */
	int32_t loop_patience;          /* where loop_turns begins */
	uint32_t loop_id;               /* what is translated next in the page of this number at loop_va is to be unrolled; or 0 */
	uint64_t loop_va;
	uint64_t failing_since;         /* by the host's TSC: when loop_failures began anew */
	uint8_t seen[1 << BT_SEEN_BITS];        /* how often it has been, by a hash of where it is */
	unsigned frag_max;              /* instructions per fragment: BT_FRAG_MAX, or 1 for tests */
	bool is_checked;                /* by engine `lockstep`: polls use up fuel, the outside is the interpreter's */
	uint64_t n_call_outs[X86_N_OPS];        /* by enum x86_op */
	bool is_counting;               /* keep n_insns. Both are set before the first translation */
};

static inline struct bt_cpu *bt_of(struct icpu *c) { return (struct bt_cpu *)c; }

/* Instructions completed since creation, in code and by the interpreter. While counting. */
static inline uint64_t bt_insns(const struct bt_cpu *b) { return b->n_insns + b->i.stats.insns; }

#define BT_OFF(field) ((uint32_t)offsetof(struct bt_cpu, field))
#define BT_GPR(r) ((uint32_t)(offsetof(struct bt_cpu, i.s.gpr) + 8u * (r)))

/* Where code finds the entry SLOT of a table, from GS: in the processor or behind it in the view of its address
 * space. */
static inline uint32_t bt_inline_at(unsigned priv, enum icpu_access acc, unsigned slot)
{
	uint32_t table = (uint32_t)(itlb_table_number(priv, acc) * sizeof(struct itlb_table));
	uint32_t at = itlb_is_shared(priv, acc) ? BT_OFF(i.shared_table) : ((uint32_t)sizeof(struct bt_cpu) + 4095) & ~4095u;

	return at + table + slot * (uint32_t)sizeof(struct itlb_inline);
}

/* Where code finds the table of its space's window, from GS. */
static inline uint32_t bt_window_at(void)
{
	return (((uint32_t)sizeof(struct bt_cpu) + 4095) & ~4095u) + (uint32_t)ICPU_SPACE_BYTES;
}

/* The common pieces of code, emitted once (thunk.c). */
struct bt_thunks {
	void (*enter)(struct bt_cpu *b);        /* go to b->target; back when code leaves */
	uint32_t call_host, call_slot;          /* call out for b->site */
	uint32_t cold;                          /* the same after a check, which may be worth another try */
	uint32_t exit_slot;
	uint32_t link_host, link_slot;          /* by the link whose offset in the arena is in R11 */
	uint32_t exit_head;                     /* from the head of the fragment whose offset is in R11 */
	uint32_t miss;                          /* of an indirect jump to R10 */
	uint32_t vec_load, x87_load;            /* load the registers, go to R10 */
};

/* One mapping: it, its pages, its arena. */
struct bt_cache {
	size_t size;                    /* in bytes, of all that */
	int fd;
	uint8_t *rw, *rx;               /* the same memory, mapped twice */
	struct emit cold;               /* for what seldom runs: cold paths and exits, beyond the rest of the region */
	uint32_t cold_part;             /* of a region's code, in 256ths: as much as the last one needed */
	uint32_t n_large;               /* bytes of it, from its beginning on, that have been given large pages or refused them */
	uint8_t *code_start;            /* in rw, after the thunks */
	uint32_t code_bytes, arena_bytes;
	unsigned n_regions, region;     /* the one that is being filled, of both */
	uint32_t *in_block;             /* by offset of code >> BT_BLOCK_SHIFT: of those that begin there the fragment that was made last */
	uint32_t newest[BT_MAX_REGIONS];        /* by region: the fragment that was made last in it, and by bt_frag.older all others */
	struct emit e;
	uint8_t *arena;
	uint32_t arena_used, arena_end; /* in the region */
	struct bt_page *pages;          /* the first n_pages of max_pages have been in use */
	unsigned n_pages, max_pages;
	struct bt_page *free_pages;     /* of those, by next_va */
	uint32_t next_id;
	uint64_t n_flushes;             /* of everything or of a region */
	FILE *perf_map;                 /* or NULL */
	bool has_avx;                   /* the host */
	struct bt_thunks thunk;
	uint32_t frags[1 << BT_HASH_BITS];
	struct bt_page *by_va[4096], *by_page[4096];
};

static inline uint32_t bt_code_off(const struct bt_cache *k, const uint8_t *rw) { return (uint32_t)(rw - k->rw); }
static inline void *bt_arena_at(const struct bt_cache *k, uint32_t off) { return k->arena + off; }
static inline uint32_t bt_arena_off(const struct bt_cache *k, const void *p) { return (uint32_t)((const uint8_t *)p - k->arena); }
/* What a fragment or a link names; NULL: none. */
static inline struct bt_frag *bt_frag_of(const struct bt_cache *k, uint32_t off) { return off ? bt_arena_at(k, off) : NULL; }
static inline struct bt_link *bt_link_of(const struct bt_cache *k, uint32_t off) { return off ? bt_arena_at(k, off) : NULL; }
/* The first of F's links. */
static inline struct bt_link *bt_frag_links(struct bt_frag *f) { return (struct bt_link *)f - f->n_links; }
static inline struct bt_frag *bt_site_frag(const struct bt_cache *k, const struct bt_site *s) { return bt_arena_at(k, s->frag); }

/* --- cache.c ------------------------------------------------------------------------------------ */

/* BYTES: of memory for all translations, those of addresses too; 0: BT_CACHE_BYTES. */
int bt_cache_new(struct bt_cpu *b, size_t bytes, struct err *err);
void bt_cache_free(struct bt_cpu *b);
/* Bytes of the cache that are in memory. Any thread. */
size_t bt_cache_resident(const struct bt_cpu *b);
/* Zeroed; the caller has checked with bt_cache_reserve(). */
void *bt_arena_alloc(struct bt_cache *k, size_t size);
/* Is there room for it, whoever has reserved what? */
static inline bool bt_arena_has(const struct bt_cache *k, size_t size) { return k->arena_used + size + 16 <= k->arena_end; }
/* Chains of pages at a linear page, by next_va; in a physical one, by next_page; each among others. */
struct bt_page **bt_page_by_va(struct bt_cache *k, uint64_t va);
struct bt_page **bt_page_by_page(struct bt_cache *k, uint64_t page);
/* F is no longer found by its address or by indirect jumps. */
void bt_frag_forget(struct bt_cpu *b, struct bt_frag *f);
/* The fragment at RIP, translated when it is new; NULL: the interpreter must do it. Faults. WANTS_HEAD: something else
 * than a jump forward in its page is going to lead to it. */
struct bt_frag *bt_find(struct bt_cpu *b, uint64_t rip, bool wants_head);
/* The fragment at VA in PAGE that has no groups: for going on where the check of a group has failed because it lies
 * across two pages. Links and jumps do not lead to it. There is room for one more page. NULL: the code has changed, or
 * went when room was made. */
struct bt_frag *bt_find_split(struct bt_cpu *b, struct bt_page *page, uint64_t va);
/* Code will jump through the table of KEY. */
void bt_indirect_need(struct bt_cpu *b, unsigned key);
/* Drop B->split and see to it that what takes its place has less of groups; BT_N_LESS: just drop it. */
void bt_split(struct bt_cpu *b);
/* The page of code at VA, which begins it, for KEY, as it is mapped now; NULL: none is known. No side effect. */
const struct bt_page *bt_page_now(const struct bt_cpu *b, uint64_t va, unsigned key);
/* Look at what the queue says has been written. */
void bt_code_changed(struct bt_cpu *b);
/* struct gmem's notice of a store to a page with code, struct cpu_vm's of a new one. */
void bt_code_written(void *vm, uint64_t page);
void bt_page_flagged(struct icpu *c, uint64_t page);

/* A fragment at VA for the present privilege, in whatever page; NULL: none. No side effect. */
const struct bt_frag *bt_frag_at(const struct bt_cpu *b, uint64_t va);

/* --- find.c: with general registers alone -------------------------------------------------------- */

static inline uint64_t bt_hash(uint64_t v) { return v * 0x9e3779b97f4a7c15ull; }
/* Functions mostly begin at multiples of 16, and places behind calls anywhere. */
static inline unsigned bt_indirect_index(uint64_t va, bool is_return)
{
	return (is_return ? va : va >> 4) & ((1u << BT_IND_BITS) - 1);
}
/* Where the chain begins, by next_hash, that fragments at VA in the page ID are in, among others. */
uint32_t *bt_frag_bucket(struct bt_cache *k, uint64_t va, uint32_t id);
struct bt_frag *bt_frag_first(struct bt_cache *k, uint64_t va, uint32_t id);
struct bt_frag *bt_frag_next(const struct bt_cache *k, const struct bt_frag *f);
/* The fragment at VA in the page ID that links and jumps lead to; or NULL. */
struct bt_frag *bt_frag_find(struct bt_cache *k, uint64_t va, uint32_t id);
/* L leads to TO, which has a head unless L is a jump forward in its page. */
void bt_link_make(struct bt_cache *k, struct bt_link *l, struct bt_frag *to);
/* L goes to its exit again. It stays in the list of what it led to. */
void bt_link_undo(struct bt_cache *k, struct bt_link *l);
/* Has the indirect jump that looked for a target last been a return? */
bool bt_indirect_is_return(const struct bt_cpu *b);
/* Returns or other indirect jumps to F's address find it. It has a head. */
void bt_indirect_set(struct bt_cpu *b, const struct bt_frag *f, bool is_return);
/* They do not find F any more. */
void bt_indirect_forget(struct bt_cpu *b, const struct bt_frag *f);
/* From the thunks: an indirect jump to RIP has found nothing or something else; b->exit_link leads nowhere yet. Where
 * to go on, or NULL to leave. */
const uint8_t *bt_indirect_again(struct bt_cpu *b);
const uint8_t *bt_link_again(struct bt_cpu *b);

/* --- perf_map.c --------------------------------------------------------------------------------- */

int bt_perf_map_open(struct bt_cache *k, struct err *err);
/* F, whose code ends at offset END. */
void bt_perf_map_add(struct bt_cache *k, const struct bt_frag *f, uint32_t end);
void bt_perf_map_close(struct bt_cache *k);

/* --- engine.c ------------------------------------------------------------------------------------ */

/* Before this thread runs code of B: no signal may come from here on, and GS belongs to it. *BEFORE is for
 * bt_end(). */
int bt_begin(struct bt_cpu *b, sigset_t *before, struct err *err);
void bt_end(const sigset_t *before);
/* As icpu_execute_fn: until `req`; one fragment. */
void bt_execute(struct icpu *c);
void bt_execute_one(struct icpu *c);

/* --- key.c: with general registers alone ------------------------------------------------------------------ */

/* What a fragment has to depend on now, or BT_NO_KEY. */
unsigned bt_key_now(const struct icpu *c);
/* The policy for code of KEY that is to be found or made now: BT_POLICY_SOFT, as nothing else is offered. */
enum bt_policy bt_policy_now(const struct icpu *c, unsigned key);
/* Can code be made for it? */
bool bt_policy_is_offered(enum bt_policy policy);

/* --- evict.c ------------------------------------------------------------------------------------ */

/* Is there room for one more page without dropping fragments? */
static inline bool bt_page_has_room(const struct bt_cache *k) { return k->free_pages || k->n_pages < k->max_pages; }
/* Drop all fragments. Not while code runs. */
void bt_cache_clear(struct bt_cpu *b);
/* Make sure that one more fragment and its page fit, by dropping the oldest ones if need be. */
void bt_cache_reserve(struct bt_cpu *b);

/* --- look.c --------------------------------------------------------------------------------------- */

/* Is all that F was made from still in its PAGE? */
bool bt_frag_is_same(const struct bt_frag *f, const uint8_t *page);

/* --- translate.c, loop.c, thunk.c ------------------------------------------------------------------------ */

/* Translate what is at VA in PAGE, IS_SPLIT: without groups. NULL: not even one instruction. */
struct bt_frag *bt_translate(struct bt_cpu *b, struct bt_page *page, uint64_t va, bool is_split, bool has_head);
/* Code has left at the head of F. True: because it has counted enough there; F may be unrolled next, or not any more. */
bool bt_loop_news(struct bt_cpu *b, struct bt_frag *f);
/* Flags that somebody may read from VA in PAGE on, as far as the longest fragment sees. */
uint16_t bt_live_flags(struct bt_cpu *b, struct bt_page *page, uint64_t va);
void bt_thunks_emit(struct bt_cache *k);

/* From the thunks: run the instruction of b->site; where to go on, or NULL to leave. */
const uint8_t *bt_call_out(struct bt_cpu *b);
/* The check of b->site has failed: when a new entry in the table is all it takes, make it and return
 * where to try again; else NULL. Uses general registers alone. */
const uint8_t *bt_refill(struct bt_cpu *b);
/* Make the entries for ACC of the pages of LA and LAST. False: one is not to be had without a fault, or they
 * do not follow each other in the host. */
bool bt_refill_two(struct bt_cpu *b, uint64_t la, uint64_t last, enum icpu_access acc);

/* --- vec.c --------------------------------------------------------------------------------------------- */

/* Emit: vector registers and MXCSR to memory if they are live (loses RAX); from memory (loses BASE); as
 * want_vec says (loses RAX). Flags are lost. */
void bt_vec_emit_save(struct emit *e, bool has_avx);
void bt_vec_emit_load(struct emit *e, unsigned base, bool has_avx);
void bt_vec_emit_resume(struct emit *e, bool has_avx);
/* x87 registers, and the vector registers unless they are live; loses BASE. */
void bt_x87_emit_load(struct emit *e, unsigned base, bool has_avx);

/* --- effects.c ---------------------------------------------------------------------------------------- */

/* How an instruction is translated. */
enum bt_kind {
	BT_CALL_OUT,            /* by the interpreter */
	BT_COPY,                /* as it is, but for its memory operand */
	BT_NOTHING,
	BT_LEA_RIP,
	BT_PUSH, BT_POP, BT_LEAVE,
	BT_CLEAR_RFLAG,         /* CLI, CLD */
	BT_DIV,
	BT_X87,                 /* copied, with FIP, FOP and FDP to note */
	BT_LOAD_CONTROL,        /* LDMXCSR, FLDCW */
	BT_SYSTEM,              /* system.c */
	BT_STRING, BT_BIT_STRING,       /* string.c */
	BT_JCC,
	/* These end a fragment. */
	BT_JMP, BT_CALL, BT_RET, BT_JMP_IND, BT_CALL_IND,
	BT_SYSTEM_END,          /* ring.c */
};

/* Registers are bit masks. Flags are EFLAGS bits. */
struct bt_effects {
	uint8_t kind;
	uint8_t mem_size;               /* 0: no memory operand */
	bool mem_is_write;
	uint16_t reads, writes;         /* general registers; a partial write is a read as well */
	uint16_t fl_reads, fl_writes;   /* may be written */
	uint16_t fl_kills;              /* are overwritten in any case */
};

void bt_effects(struct bt_effects *fx, const struct x86_insn *x, unsigned key);

/* --- x87.c --------------------------------------------------------------------------------------------- */

/* For rows of x87 and MMX. */
enum bt_kind bt_x87_kind(const struct x86_insn *x, unsigned key);
/* Back in C: what b->x87_note says of FIP and FOP goes to where it belongs. */
void bt_x87_settle(struct bt_cpu *b);

/* --- vex.c --------------------------------------------------------------------------------------------- */

/* For rows with a VEX prefix. */
enum bt_kind bt_vex_kind(const struct x86_insn *x, unsigned key);
/* Can X leave an upper half of a vector register that is not zero? Does it clear them all? */
bool bt_vex_writes_high(const struct x86_insn *x);
bool bt_vex_zeroes_high(const struct x86_insn *x);

/* --- system.c ---------------------------------------------------------------------------------------- */

/* BT_SYSTEM, BT_SYSTEM_END, BT_NOTHING, or BT_CALL_OUT for what is none of system.c's. */
enum bt_kind bt_system_kind(const struct x86_insn *x, unsigned key);
/* Add what X reads and writes without naming it; FX has its kind. */
void bt_system_effects(struct bt_effects *fx, const struct x86_insn *x);
/* False: the machine does not announce it, or cannot be asked by code. */
bool bt_system_is_offered(const struct bt_cpu *b, const struct x86_insn *x);

/* --- string.c ---------------------------------------------------------------------------------------- */

/* BT_STRING, BT_BIT_STRING or BT_CALL_OUT; what a BT_STRING reads and writes. */
enum bt_kind bt_string_kind(const struct x86_insn *x);
void bt_string_effects(struct bt_effects *fx, const struct x86_insn *x);

#endif
