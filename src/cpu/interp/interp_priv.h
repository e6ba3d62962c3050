/* SPDX-License-Identifier: Apache-2.0 */
/* interp_priv.h - what the files of the reference interpreter share.
 *
 * How it runs. Guest code is decoded into blocks (block.c): arrays of `struct iop`, each a
 * decoded instruction with the function that executes it (a handler). run.c calls handlers
 * one after the other. A handler does everything for its instruction:
 *
 *	on entry   c->s.rip is the address of this instruction, c->next_rip of the next one
 *	on return  the instruction has retired; run.c sets c->s.rip = c->next_rip
 *	branches   write c->next_rip (through icpu_branch(), which applies the width)
 *	faults     call icpu_raise*(), which never returns; so a handler commits registers and
 *	           flags only after everything that can fault has been done. Memory that was
 *	           written before the fault stays written, as on hardware.
 *
 * Restartable REP strings call icpu_not_retired() after a bounded chunk to let interrupts in.
 *
 * Flags are kept in s.rflags at all times: arithmetic runs the host's own instruction and takes
 * the host's flags (alu.h), so even the undefined ones are those of a real CPU.
 *
 * Memory is reached by linear address through a soft TLB (tlb.c) with icpu_read*()/icpu_write*();
 * an effective address comes from icpu_ea(), which adds the segment base and checks limit, type
 * and canonical form. Vector and x87 instructions load the guest's registers into the host's,
 * run the instruction itself, and store back (sse*.c, x87.c).
 *
 * Owner: the vcpu's thread owns everything in struct icpu except `req`, `park`. */
#ifndef CPU_INTERP_INTERP_PRIV_H
#define CPU_INTERP_INTERP_PRIV_H

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "cpu/cpu.h"
#include "cpu/interp/space.h"
#include "cpu/x86/insn.h"

struct icpu;
struct iop;

typedef void (*iop_fn)(struct icpu *c, const struct iop *op);

/* A decoded instruction ready to run. `x` stays whole for generic handlers; FN may be a
 * version specialised for its operands (block.c picks it through interp_bind()). */
struct iop {
	iop_fn fn;
	/* The effective address of 64-bit address size, ready to add up (mem.h): offsets in
	 * struct icpu of base, index and segment base (c->zero when there is none). */
	uint16_t base_off, index_off, seg_off;
	uint8_t scale;
	int64_t disp;                   /* RIP-relative: plus the instruction's length */
	struct x86_insn x;
};

/* An exception, interrupt or software interrupt on its way through the IDT / IVT. SOFT: INT n,
 * INT3, INTO. */
struct icpu_event {
	uint8_t vector;
	bool is_soft, has_code, is_external;
	uint32_t code;
};

/* Why run.c must look up from executing (bits of icpu.req; set by any thread). */
enum icpu_req {
	ICPU_REQ_KICK = 1,      /* leave cpu_run() */
	ICPU_REQ_INTR = 2,      /* host->intr_pending() may be true */
	ICPU_REQ_NMI = 4,
	ICPU_REQ_NMI_AGAIN = 64, /* another came before the first was looked at */
	ICPU_REQ_INIT = 8,
	ICPU_REQ_SIPI = 16,
	ICPU_REQ_RECHECK = 32,  /* own thread: IF, shadow, TF, or a mode changed: look before going on */
	ICPU_REQ_UNHALT = 256,  /* the next HLT, or this one, ends at once */
	ICPU_REQ_SAMPLE = 512,  /* note where the guest is (profile.c) */
	ICPU_REQ_CODE = 128,    /* translated code, or what it may write, has changed (engine `bt`) */
};

/* One entry per linear address: finds the block without a page walk while KEY is current. */
struct iblock_jump {
	uint64_t la, key;
	struct iblock *b;
};

enum { ICPU_JUMPS = 1 << 12 };

/* How many PAUSEs give the host's processor away when more vCPUs are awake than it has, a power of two;
 * and when there is room for all. */
enum { ICPU_PAUSES_PER_YIELD = 16, ICPU_PAUSES_WITH_ROOM = 512 };

struct icpu {
	struct x86_state s;
	uint64_t next_rip;
	uint64_t rip_mask;              /* ~0, 0xffffffff or 0xffff: by CS */
	uint8_t mode;                   /* enum x86_mode of CS */
	uint8_t cpl;                    /* kept equal to x86_cpl(&s) by icpu_mode_changed() */
	bool is_long;                   /* EFER.LMA */
	bool is_real_or_vm86;           /* CR0.PE = 0 or RFLAGS.VM = 1 */
	bool is_vm86;
	bool in_delivery;               /* delivering an event: faults become #DF, then shutdown */
	uint8_t delivery_vector;
	unsigned index;                 /* vcpu number = APIC id */
	struct cpu_vm *vm;
	const struct cpu_host *host;
	struct gmem *mem;
	_Atomic uint32_t req;           /* enum icpu_req; pairs with run.c's check per block */
	bool stop_block;                /* own code was overwritten: leave the block after this insn */
	uint64_t zero;                  /* always 0: the absent base, index or segment of an address */
	/* Where translations are now: in tables of the present address space, or of all (space.h). */
	struct itlb_table *table[ICPU_N_PRIV][ICPU_N_ACCESS];
	struct icpu_space *space;       /* the present one of spaces[] */
	uint64_t space_clock;           /* counts switches between them */
	/* Each itlb_inline by which a page of RAM may be written, in the set of the page (writers.c). 0: none, nor behind it. */
	uint32_t writers[ICPU_WRITER_SETS][ICPU_WRITER_WAYS];
	uint64_t missing;               /* enum x86_feature by bit: the host cannot execute, or CPUID does not announce them */
	uint64_t rsvd_phys;             /* bits 51..MAXPHYADDR: reserved in paging structures */
	sigjmp_buf landing;             /* the one non-local exit: back to run.c */
	struct cpu_stats stats;
	uint64_t code_epoch;            /* bumped by every TLB flush and mode change: block chains die */
	struct iblock_cache *blocks;    /* block.c */
	uint64_t block_page[2];         /* memfd pages that the running block was decoded from; ~0: none */
	_Atomic bool is_parked;         /* HLT sleeps until req != 0 */
	uint64_t rep_budget;            /* iterations that one REP may do before it looks up */
	/* run.c */
	struct icpu_event fault;        /* what icpu_raise*() brings to the landing point */
	const struct iblock *block;     /* running now; NULL: none */
	uint64_t block_rip;             /* where it started */
	_Atomic uint8_t sipi_vector;    /* goes with ICPU_REQ_SIPI */
	bool code_maybe;                /* ICPU_REQ_CODE came: engine `bt` has to look */
	bool has_inline;                /* keep struct itlb_inline, for code that finds it through views */
	int view_fd;                    /* the memory that all views share, this struct in it; -1: it is not shared */
	bool is_unhalted;               /* ICPU_REQ_UNHALT came and there was no HLT since */
	bool intr_maybe;                /* ICPU_REQ_INTR came and intr_ack() has not said -1 since */
	bool is_watching;               /* DR7 enables a data breakpoint */
	bool is_code_watched;           /* DR7 enables an instruction breakpoint */
	uint8_t watch_hits;             /* data breakpoints (DR6 bits) that this instruction met */
	bool is_traced;                 /* a single-step trap is due after this instruction */
	uint64_t dr_seen[5];            /* DR0..DR3, DR7 that is_*watched were computed from */
	unsigned pauses;                /* executed since the host processor was given away */
	_Atomic uint8_t phase;          /* enum cpu_phase, for samples of another thread */
	struct icpu_profile *profile;   /* NULL: nobody wants one */
	struct iblock_jump jump[ICPU_JUMPS];
	unsigned n_chunks, max_chunks;  /* of tables: in use by all address spaces; more are too many */
	bool must_trim;                 /* they are, and ICPU_REQ_RECHECK is up */
	struct itlb_table shared_table[ICPU_SHARED_TABLES];
	uint32_t shared_list[2][ICPU_SHARED_TABLES * ICPU_TLB_SIZE];
	struct icpu_space shared;       /* what all address spaces have in common */
	struct icpu_space spaces[ICPU_N_SPACES];
};

struct cpu_vm {                         /* of this engine */
	struct cpu_config cfg;
	unsigned n;
	struct icpu **cpu;
	size_t cpu_size;                /* bytes of each; more than struct icpu in engine `bt` */
	_Atomic unsigned n_awake;       /* processors that are executing, not parked or stopped */
	unsigned n_host_cpus;           /* that this process may use */
	pthread_mutex_t split_lock;     /* LOCKed accesses that cross a page or a cache line */
	/* Called when PAGE begins to hold decoded code, before its bytes are read; or NULL. */
	void (*page_flagged)(struct icpu *c, uint64_t page);
	/* For engine `lockstep`, or NULL: after each store to watched memory (gmem_watch()), LEN bytes at OFF
	 * of it; after accessed or dirty bits were set in the page-table entry at OFF. */
	void (*stored)(struct icpu *c, uint64_t off, uint32_t len);
	void (*marked)(struct icpu *c, uint64_t off);
};

enum cpu_exit_reason interp_run(struct vcpu *v, struct err *err);

/* --- profile.c -------------------------------------------------------------------------- */

struct icpu_profile *icpu_profile_new(void);
void icpu_profile_free(struct icpu_profile *p);         /* NULL is fine */
/* Any one thread: count what C is doing, and have it note where. */
void icpu_sample(struct icpu *c);
/* Answers ICPU_REQ_SAMPLE. */
void icpu_note_place(struct icpu *c);
void icpu_profile(struct icpu *c, struct cpu_profile *out);

/* C does something else from here on; what it did before. */
static inline uint8_t icpu_phase_set(struct icpu *c, uint8_t phase)
{
	uint8_t was = atomic_load_explicit(&c->phase, memory_order_relaxed);

	atomic_store_explicit(&c->phase, phase, memory_order_relaxed);
	return was;
}

/* --- run.c ----------------------------------------------------------------------------- */

/* A REP instruction has more to do: come back to it, and do not count it yet. */
static inline void icpu_not_retired(struct icpu *c)
{
	c->next_rip = c->s.rip;
	c->stats.insns--;
}

/* Leave the handler and deliver an exception (fault: restart at s.rip). Never return. */
_Noreturn void icpu_raise(struct icpu *c, unsigned vector);                    /* no error code */
_Noreturn void icpu_raise_code(struct icpu *c, unsigned vector, uint32_t code);
_Noreturn void icpu_page_fault(struct icpu *c, uint64_t la, uint32_t code);    /* sets CR2 */
static inline void icpu_gp0(struct icpu *c) { icpu_raise_code(c, X86_EXC_GP, 0); }
/* Set bits of req and wake the vcpu when it is parked; what req was before. Any thread. */
uint32_t icpu_request(struct icpu *c, uint32_t bits);
/* HLT. Called by its handler; sleeps in run.c after the instruction has retired. */
void icpu_halt(struct icpu *c);

/* DR0..DR3 or DR7 changed. run.c calls it by itself after instructions that end a block. */
void icpu_debug_changed(struct icpu *c);

/* Relative and indirect near branches: set next_rip, masked to the operand size, #GP(0) when it
 * is not canonical or beyond the CS limit. */
void icpu_branch(struct icpu *c, uint64_t target, unsigned opsize);

/* --- tlb.c: linear memory (SDM vol. 3 chapter 4) ---------------------------------------------- */

/* The slow paths; the fast paths are below. LEN up to 64 bytes, may cross a page. SUPER: use
 * supervisor rights whatever the CPL (descriptor tables, TSS, IDT). */
void icpu_read_slow(struct icpu *c, uint64_t la, void *buf, unsigned len, bool super);
void icpu_write_slow(struct icpu *c, uint64_t la, const void *buf, unsigned len, bool super);

/* Fault now unless [la, la+len) can be accessed so at the current privilege. */
void icpu_probe(struct icpu *c, uint64_t la, unsigned len, enum icpu_access acc);

/* Host address of LEN bytes for an atomic read-modify-write when they lie in one RAM page and
 * need no split lock; sets *FLAGS and *OFF for icpu_atomic_done(). NULL: MMIO or page-crossing:
 * the caller takes vm->split_lock and does read, compute, write. Faults as a write does. */
void *icpu_atomic_ptr(struct icpu *c, uint64_t la, unsigned len);
void icpu_atomic_done(struct icpu *c, uint64_t la, unsigned len);

/* Translate for execution; returns the entry (valid until the next TLB operation) or faults. */
const struct itlb_entry *icpu_exec_page(struct icpu *c, uint64_t la);

/* Make the struct itlb_inline of LA, unless it is there, or its making takes more than reading the guest's
 * tables: a fault, accessed and dirty bits, pages that it is not for. True: it is there now. For
 * translated code: uses general registers alone and calls nobody outside of tlb.c. */
bool icpu_tlb_refill(struct icpu *c, uint64_t la, enum icpu_access acc, unsigned priv);

/* Walk without side effects (no A/D, no fault). False when not mapped. For debuggers. */
bool icpu_translate(struct icpu *c, uint64_t la, gpa_t *gpa);

/* --- space.c: address spaces (SDM vol. 3 4.10) -------------------------------------------------- */

/* Memory for the tables, and struct icpu itself, which begins the first view. CPU_SIZE: as vm->cpu_size. NULL: no
 * memory. HAS_VIEWS: translated code will look for its tables at fixed distances from GS. */
struct icpu *icpu_map(size_t cpu_size, bool has_views);
/* What the tables of address spaces may take together; 0: the default. At least what one chunk of each takes. */
void icpu_space_limit(struct icpu *c, size_t bytes);
/* Too much memory is in use for tables: see space.h. Nobody holds an entry. */
void icpu_space_trim(struct icpu *c);
void icpu_unmap(struct icpu *c, size_t cpu_size);       /* NULL is fine */
/* Bytes of it that are in memory. Any thread. */
size_t icpu_map_resident(const struct icpu *c, size_t cpu_size);

/* Drop everything of all address spaces, or all that is not global. The present one is CR3's from here on. */
void icpu_tlb_flush(struct icpu *c, bool keep_global);
/* INVLPG: LA's page in the present PCID, and global ones of LA. */
void icpu_tlb_flush_page(struct icpu *c, uint64_t la);
/* INVPCID of one address, which leaves global pages alone. */
void icpu_tlb_flush_pcid_page(struct icpu *c, unsigned pcid, uint64_t la);
/* INVPCID of one PCID, or of all when it is ICPU_ALL_PCIDS: what is not global. */
enum { ICPU_ALL_PCIDS = 1 << 12 };
void icpu_tlb_flush_pcid(struct icpu *c, unsigned pcid);
/* CR3 has been loaded. IS_KEPT: without invalidating anything (bit 63). */
void icpu_space_switch(struct icpu *c, bool is_kept);

/* After a store found page flags up: invalidate decoded code, note the dirty log. */
void icpu_stored_flagged(struct icpu *c, const uint8_t *host, unsigned len);

/* Call after every store to guest RAM at HOST, which lies in one page. */
static inline void icpu_stored(struct icpu *c, const uint8_t *host, unsigned len)
{
	atomic_signal_fence(memory_order_seq_cst);
	if (__builtin_expect(atomic_load_explicit(&c->mem->page_flags[(host - c->mem->host) >> GMEM_PAGE_SHIFT],
						  memory_order_relaxed), 0))
		icpu_stored_flagged(c, host, len);
}

static inline unsigned icpu_priv(const struct icpu *c)
{
	return (unsigned)(c->cpl == 3) | ((unsigned)(c->s.rflags >> 17) & 2);   /* AC is bit 18 */
}

static inline struct itlb_entry *icpu_tlb_slot(struct icpu *c, unsigned priv, enum icpu_access acc, uint64_t la)
{
	return &c->table[priv][acc]->entry[(la >> 12) & (ICPU_TLB_SIZE - 1)];
}

/* The entry for SIZE bytes at LA when the inline paths may touch them, else NULL. A hit also
 * proves that LA is canonical. */
static inline struct itlb_entry *icpu_tlb_hit(struct icpu *c, uint64_t la, enum icpu_access acc, unsigned size)
{
	struct itlb_entry *e = icpu_tlb_slot(c, icpu_priv(c), acc, la);

	return __builtin_expect(((la & ~0xfffull) | ITLB_FAST) == e->tag && (la & 0xfff) <= 4096 - size, 1) ? e : NULL;
}

/* Read or write of a scalar at a linear address with the current privilege. The fast path needs
 * a TLB hit on RAM and no page crossing. */
#define ICPU_RW(bits)                                                                              \
	static inline uint##bits##_t icpu_read##bits(struct icpu *c, uint64_t la)                  \
	{                                                                                          \
		const struct itlb_entry *e = icpu_tlb_hit(c, la, ICPU_READ, bits / 8);             \
		uint##bits##_t v = 0;                                                              \
		if (e)                                                                             \
			memcpy(&v, e->host + (la & 0xfff), sizeof(v));                             \
		else                                                                               \
			icpu_read_slow(c, la, &v, sizeof(v), false);                               \
		return v;                                                                          \
	}                                                                                          \
	static inline void icpu_write##bits(struct icpu *c, uint64_t la, uint##bits##_t v)         \
	{                                                                                          \
		const struct itlb_entry *e = icpu_tlb_hit(c, la, ICPU_WRITE, bits / 8);            \
		if (e) {                                                                           \
			memcpy(e->host + (la & 0xfff), &v, sizeof(v));                             \
			atomic_signal_fence(memory_order_seq_cst);                                   \
			if (__builtin_expect(atomic_load_explicit(e->flags, memory_order_relaxed), 0)) \
				icpu_stored_flagged(c, e->host + (la & 0xfff), sizeof(v));         \
		} else {                                                                           \
			icpu_write_slow(c, la, &v, sizeof(v), false);                              \
		}                                                                                  \
	}
ICPU_RW(8)
ICPU_RW(16)
ICPU_RW(32)
ICPU_RW(64)

/* SIZE 1, 2, 4, 8; zero-extended. */
uint64_t icpu_read(struct icpu *c, uint64_t la, unsigned size);
void icpu_write(struct icpu *c, uint64_t la, unsigned size, uint64_t v);

/* --- operands (operand.c) --------------------------------------------------------------- */

/* Linear address of the memory operand (or moffs) of OP, for an access of SIZE bytes: base + index
 * + disp, truncated to the address size, plus segment base. Raises #GP(0)/#SS(0) for limit, type,
 * null or non-canonical. */
uint64_t icpu_ea(struct icpu *c, const struct iop *op, unsigned size, enum icpu_access acc);
/* Only the offset: LEA, and bit-string operands that add to it first. */
uint64_t icpu_ea_offset(struct icpu *c, const struct iop *op);
/* Segment checks and base for an offset computed elsewhere (strings, stack, BT). */
uint64_t icpu_linear(struct icpu *c, enum x86_sreg seg, uint64_t off, unsigned size, enum icpu_access acc);

/* Value of operand N: general register or memory zero-extended from its size, an immediate as the
 * decoder extended it (which may be more bits than the operation has). */
uint64_t icpu_get(struct icpu *c, const struct iop *op, unsigned n);
/* Store to operand N; 4-byte register writes clear the upper half. */
void icpu_set(struct icpu *c, const struct iop *op, unsigned n, uint64_t v);

static inline uint64_t icpu_reg_get(const struct icpu *c, unsigned reg, unsigned size, bool high)
{
	uint64_t v = c->s.gpr[reg];

	switch (size) {
	case 1: return high ? (v >> 8) & 0xff : v & 0xff;
	case 2: return v & 0xffff;
	case 4: return (uint32_t)v;
	default: return v;
	}
}

static inline void icpu_reg_set(struct icpu *c, unsigned reg, unsigned size, bool high, uint64_t v)
{
	uint64_t *r = &c->s.gpr[reg];

	switch (size) {
	case 1:
		if (high)
			*r = (*r & ~0xff00ull) | (v & 0xff) << 8;
		else
			*r = (*r & ~0xffull) | (v & 0xff);
		break;
	case 2: *r = (*r & ~0xffffull) | (v & 0xffff); break;
	case 4: *r = (uint32_t)v; break;
	default: *r = v; break;
	}
}

/* Stack accesses of SIZE bytes with the width of SS.B / long mode. icpu_push/pop move RSP after
 * the access succeeded. */
void icpu_push(struct icpu *c, unsigned size, uint64_t v);
uint64_t icpu_pop(struct icpu *c, unsigned size);

/* Condition code 0..15 (SDM vol. 1 appendix B) on the current flags. */
bool icpu_cond(const struct icpu *c, unsigned cc);

/* --- system (sys*.c) -------------------------------------------------------------------- */

/* Deliver an exception, interrupt or software interrupt through the IDT / IVT. SOFT: DPL
 * checked, return address is next_rip; else it is s.rip. Sets next_rip to the handler. run.c
 * calls it with in_delivery and delivery_vector set; faults inside go through the landing
 * again, where they become #DF and shutdown. */
void icpu_deliver(struct icpu *c, const struct icpu_event *ev);

/* Recompute mode, cpl, rip_mask, is_* after CR0, EFER, CS, RFLAGS.VM changed; bumps code_epoch
 * when decoding depends on it. */
void icpu_mode_changed(struct icpu *c);
/* Set CR0/CR3/CR4/EFER/XCR0 with all architectural checks (raise #GP) and flushes. */
void icpu_set_cr(struct icpu *c, unsigned n, uint64_t v);
/* Write RFLAGS bits of MASK (popf, iret, ...), set ICPU_REQ_RECHECK when IF or TF rise. */
void icpu_set_flags(struct icpu *c, uint64_t v, uint64_t mask);
/* Load a segment register from a selector with all checks, real mode included. CS only by far
 * transfers. */
void icpu_load_sreg(struct icpu *c, enum x86_sreg seg, uint16_t sel);

/* --- vector and x87 preconditions (fpu.c) ------------------------------------------------ */

/* Raise #UD/#NM/#MF as the row's class (X86_R_X87/MMX/SSE) demands. Called by handlers of those. */
void icpu_fpu_check(struct icpu *c, const struct iop *op);

static inline uint8_t *icpu_xmm(struct icpu *c, unsigned reg)
{
	return c->s.xsave + X86_FX_XMM + 16 * reg;
}

/* XSAVE components that are not in their initial state: x87 and SSE always, AVX when an upper half
 * is not zero. Inside the engine those are valid at all times; XSTATE_BV counts only when the
 * state leaves or enters it. */
static inline uint64_t icpu_xinuse(const struct icpu *c)
{
	uint64_t any = 0, v;

	for (unsigned i = 0; i < 256; i += sizeof(v)) {
		memcpy(&v, c->s.xsave + X86_XS_AVX + i, sizeof(v));
		any |= v;
	}
	return any ? 7 : 3;
}

/* --- decoded blocks (block.c) ------------------------------------------------------------ */

enum { IBLOCK_MAX = 32 };               /* instructions */

struct iblock {
	uint64_t off;                   /* in the memfd, of the first byte; ~0: not RAM, not cached */
	uint64_t page[2];               /* memfd pages of the bytes; [1] is ~0 unless it straddles */
	_Atomic uint32_t *gen_now[2];   /* where their generations are; equal pointers for one page */
	uint32_t gen[2];                /* what they were when the bytes were read */
	uint32_t next;                  /* in the hash chain: arena offset; 0: end */
	uint8_t mode;                   /* enum x86_mode */
	uint8_t n;                      /* instructions, 1..IBLOCK_MAX */
	bool is_end;                    /* the last one carries X86_R_END */
	uint16_t n_bytes;
	struct iop ops[];
};

/* Zeroed room for what an engine keeps only for speed: touched as it is used, left out of core
 * dumps (which is also how /proc/PID/smaps tells it from the process's own memory). engine.c. */
void *icpu_cache_map(size_t size);
void icpu_cache_unmap(void *p, size_t size);    /* NULL is fine */
/* How many of SIZE bytes from P on are in memory, in whole pages. Any thread. */
size_t icpu_resident(const void *p, size_t size);
/* The same of all of the memory file FD, by one question: of one that is mapped, mincore() looks up each page. */
size_t icpu_file_resident(int fd);

/* BYTES: for blocks; a MiB or more. NULL: no memory. */
struct iblock_cache *iblock_cache_new(size_t bytes);
void iblock_cache_free(struct iblock_cache *bc);        /* NULL is fine */
size_t iblock_cache_resident(const struct iblock_cache *bc);    /* bytes; any thread */
/* The block at linear address LA by physical address, decoded when it is not there. Faults. */
struct iblock *iblock_find_slow(struct icpu *c, uint64_t la);

/* What a jump entry's truth depends on besides its address. */
static inline uint64_t iblock_key(const struct icpu *c)
{
	return c->code_epoch << 3 | (uint64_t)c->mode << 1 | (c->cpl == 3);
}

static inline struct iblock_jump *iblock_jump_slot(struct icpu *c, uint64_t la)
{
	return &c->jump[(la ^ la >> 12) & (ICPU_JUMPS - 1)];
}

static inline bool iblock_is_current(const struct iblock *b)
{
	return atomic_load_explicit(b->gen_now[0], memory_order_relaxed) == b->gen[0] &&
	       atomic_load_explicit(b->gen_now[1], memory_order_relaxed) == b->gen[1];
}

static inline uint64_t icpu_linear_rip(const struct icpu *c, uint64_t rip)
{
	return c->mode == X86_MODE_64 ? rip : (uint32_t)(c->s.seg[X86_CS].base + rip);
}

/* --- binding: every file brings its handlers ----------------------------------------------- */

/* Each returns the handler for a decoded instruction, or NULL when the operation is not its. */
iop_fn interp_bind_integer(const struct x86_insn *x);   /* int*.c */
iop_fn interp_bind_string(const struct x86_insn *x);    /* string.c */
iop_fn interp_bind_system(const struct x86_insn *x);    /* sys*.c */
iop_fn interp_bind_fpu(const struct x86_insn *x);       /* x87.c, sse*.c, xsave.c */

/* The handler that raises #UD: for what nobody binds. */
void iop_ud(struct icpu *c, const struct iop *op);

#endif
