/* SPDX-License-Identifier: Apache-2.0 */
/* quiesce.h - bring a machine to a stand for a moment: no processor runs, nothing is in flight, disks are
 * flushed. What a save and a migration begin with. Loop thread. */
#ifndef VM_QUIESCE_H
#define VM_QUIESCE_H

#include <stdbool.h>
#include <stdint.h>
#include "blk/blk.h"
#include "util/loop.h"
#include "vm/config.h"
#include "vm/machine.h"

struct quiesce {
	struct machine *m;
	enum machine_hold why;
	uint64_t start_ns;              /* CLOCK_MONOTONIC: since then the guest stands still */
	/* CODE 0: it stands still, until quiesce_end(). Else -errno with WHY, and the hold is over. From inside quiesce_start() only
	 * if IS_PROMPT. */
	void (*done)(struct quiesce *q, int code, const char *why);
	bool is_prompt;
	/* private */
	struct loop_timer poll;
	uint64_t poll_ns;               /* until the next look */
	struct blk_req flush[CONFIG_DISKS_MAX];
	unsigned n_flushing;
	int flush_error;
	bool is_held, is_abandoned, is_ahead;
	void (*abandoned)(struct quiesce *q);
};

/* Before quiesce_start(), if wished: write M's disks back while it runs, so that less is left for later. DONE is called with CODE 0,
 * maybe from inside, and nothing is held; how it went is seen later. */
void quiesce_prepare(struct quiesce *q, struct machine *m);
/* Begin: hold M for WHY. Q is zeroed but for DONE and IS_PROMPT, or prepared. */
void quiesce_start(struct quiesce *q, struct machine *m, enum machine_hold why);
/* The machine goes on, unless somebody else holds it; the nanoseconds that it stood still. Twice is once, and
 * gives 0. */
uint64_t quiesce_end(struct quiesce *q);
/* The machine is about to go: DONE is not called. GONE is called when Q may be freed, from inside or once disks have
 * answered. */
void quiesce_abandon(struct quiesce *q, void (*gone)(struct quiesce *q));

#endif
