/* SPDX-License-Identifier: Apache-2.0 */
/* lockstep_priv.h - what the files of the engine `lockstep` share; docs/design/lockstep.md explains it.
 *
 * Two complete processors: the *leader* is the interpreter's. It belongs to the machine: requests come to it,
 * it takes interrupts, and it alone reaches devices, clocks and randomness. The *follower* is the
 * translator's. Each has a memory of its own; a third, the machine's, is what devices see.
 *
 * Owner: the vcpu's thread. Nothing here is shared, but for `req` of both processors. */
#ifndef CPU_BT_LOCKSTEP_PRIV_H
#define CPU_BT_LOCKSTEP_PRIV_H

#include "cpu/bt/bt_priv.h"
#include "cpu/bt/lockstep.h"
#include "util/checked.h"

enum {
	LOCKSTEP_MAX_ACCESSES = 4096,
	LOCKSTEP_MAX_STORES = 1 << 20,
	LOCKSTEP_MAX_MARKS = 4096,
	LOCKSTEP_FUEL = 128,            /* polls of the follower in one go, at most */
	LOCKSTEP_UNWOUND = 0xfe,        /* "exception": wants to reach what only the leader may */
};

/* What the leader may do with the world outside. */
enum lockstep_mode {
	LOCKSTEP_FREE,          /* reach it: between what is compared */
	LOCKSTEP_RECORD,        /* reach it and write down how it went */
	LOCKSTEP_HOLD,          /* nothing: catching up */
	LOCKSTEP_REPLAY,        /* what was written down */
};

enum lockstep_kind {
	LOCKSTEP_PIO_READ, LOCKSTEP_PIO_WRITE, LOCKSTEP_MMIO_READ, LOCKSTEP_MMIO_WRITE, LOCKSTEP_MSR_READ,
	LOCKSTEP_MSR_WRITE, LOCKSTEP_CR8_READ, LOCKSTEP_CR8_WRITE, LOCKSTEP_TSC_CHANGED, LOCKSTEP_TIME,
	LOCKSTEP_RANDOM,
};

/* One use of struct cpu_host or struct source. */
struct lockstep_access {
	uint8_t kind;
	uint8_t size;
	bool has_failed;        /* MSRs: #GP */
	uint64_t addr;
	uint64_t val;           /* read or written */
};

/* The leader has stored to its memory. */
struct lockstep_store {
	uint64_t off;
	uint32_t len;
};

/* A door to the outside: one per processor. */
struct lockstep_door {
	struct cpu_host host;
	struct source source;
	struct lockstep *l;
	enum lockstep_mode mode;
	unsigned at;                    /* REPLAY: next in accesses[] */
};

struct lockstep {
	struct icpu *lead;
	struct bt_cpu *bt;
	struct cpu_vm *lead_vm, *bt_vm;
	struct gmem *real, *lead_mem, *bt_mem;
	const struct cpu_host *host;
	struct source *source;
	struct lockstep_door lead_door, bt_door;

	/* since the last comparison */
	struct lockstep_access accesses[LOCKSTEP_MAX_ACCESSES];
	unsigned n_accesses;
	uint64_t *written;              /* pages that devices have stored to: room for the log */
	struct lockstep_store *stores;
	unsigned n_stores, n_flushed;   /* n_flushed: have reached real memory */
	uint64_t marks[LOCKSTEP_MAX_MARKS];     /* where accessed and dirty bits were set, by either */
	unsigned n_marks;
	bool is_full;                   /* something of these did not fit */
	bool is_waiting;                /* the follower stands before an instruction that reaches outside */
	bool wants_sync;                /* real memory may have been written by others */
	struct x86_state start;         /* both, at the beginning of the step */
	uint64_t start_insns;           /* of the leader, ever; those of the follower differ */

	uint64_t goal;                  /* instructions: how far the leader has to follow */
	uint64_t lead_epoch;            /* lead->code_epoch when the two were last the same */
	uint64_t n_steps, n_synced, n_recorded;
	uint32_t random;                /* how far the follower goes at once */
	unsigned scan;                  /* next slot of the follower's table of pages to be looked at */
	uint64_t left;                  /* comparisons until lockstep_run_some() returns */
	bool has_failed;
	struct err *err;                /* of the caller of run */
};

/* The leader's struct icpu, and the way from it to the rest. */
struct lockstep_cpu {
	struct icpu i;
	struct lockstep *l;
};

static inline struct lockstep *lockstep_of(const struct icpu *c) { return ((const struct lockstep_cpu *)c)->l; }

/* How one of the two has stopped. */
struct lockstep_stop {
	bool has_faulted, is_unwound;
	struct icpu_event fault;
};

/* --- lockstep_door.c ---------------------------------------------------------------------------- */

void lockstep_door_init(struct lockstep_door *d, struct lockstep *l);

/* --- lockstep_mem.c ------------------------------------------------------------------------------- */

int lockstep_mem_new(struct lockstep *l, struct err *err);
void lockstep_mem_free(struct lockstep *l);
/* Of the leader, as cpu_vm.stored; of both, as cpu_vm.marked. */
void lockstep_stored(struct icpu *c, uint64_t off, uint32_t len);
void lockstep_marked_lead(struct icpu *c, uint64_t off);
void lockstep_marked_bt(struct icpu *c, uint64_t off);
/* What the leader has stored becomes visible to devices. */
void lockstep_flush(struct lockstep *l);
/* The same becomes visible to the follower, and is forgotten. */
void lockstep_give_stores(struct lockstep *l);
/* What others have stored to real memory becomes visible to both. After a flush. */
void lockstep_sync(struct lockstep *l);
/* First offset in memory where the two differ though they should not: in what the leader has stored, and in a
 * few of the pages that the follower can store to (ALL: in all of them). UINT64_MAX: nowhere. */
uint64_t lockstep_mem_compare(struct lockstep *l, bool all);
void lockstep_forget_stores(struct lockstep *l);
/* Both memories as at the beginning of the step. */
void lockstep_mem_rewind(struct lockstep *l);

/* --- lockstep_state.c ------------------------------------------------------------------------------ */

/* Are registers the same? IS_UNFINISHED: the follower has left an instruction before its end, so arithmetic flags
 * need not be. */
bool lockstep_state_is_same(struct lockstep *l, bool is_unfinished);
/* Are they as the last step has left them? Arithmetic flags do not count. */
bool lockstep_state_is_untouched(const struct lockstep *l);
/* Log each register that differs. */
void lockstep_state_print(struct lockstep *l);

/* --- lockstep_report.c ---------------------------------------------------------------------------- */

/* They differ. Find out where, say so in the log and in l->err. */
void lockstep_fail(struct lockstep *l, const struct lockstep_stop *lead, const struct lockstep_stop *bt);

/* --- lockstep.c ---------------------------------------------------------------------------------------- */

/* Run EXECUTE on C; its faults stop it. */
struct lockstep_stop lockstep_go(struct icpu *c, icpu_execute_fn execute);
/* Let the leader go on to where the follower has stopped, N instructions from l->start. Are they the same? */
bool lockstep_catch_up(struct lockstep *l, uint64_t n, struct lockstep_stop *lead, const struct lockstep_stop *bt);
/* Run EXECUTE on the follower; N: the instructions that it has completed. */
struct lockstep_stop lockstep_bt_go(struct lockstep *l, icpu_execute_fn execute, uint64_t *n);
/* Make the follower what the leader is, but for memory. */
void lockstep_copy_state(struct lockstep *l);

#endif
