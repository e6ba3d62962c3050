/* SPDX-License-Identifier: Apache-2.0 */
/* describe.h - where the guest is while translated code runs. Nothing is written down for that when code is made:
 * the fragment is translated once more, up to the address in question. Only the vcpu's thread, which may be in a
 * signal handler that interrupted code: no allocation, no lock, some 48 KiB of stack, 10 to 20 us. */
#ifndef CPU_BT_DESCRIBE_H
#define CPU_BT_DESCRIBE_H

#include <stdbool.h>
#include <stdint.h>

struct bt_cpu;
struct bt_frag;

/* The guest at an address of code. */
struct bt_place {
	const struct bt_frag *frag;
	uint64_t rip;           /* of the instruction that the address belongs to */
	/* Nothing of that instruction has happened: the guest is at RIP, and what follows says where its registers
	 * are. A fault of the host instruction at the address is then the guest instruction's. */
	bool is_exact;
	uint32_t next;          /* code offset behind the address where the next instruction begins, which is exact; 0: the
				 * fragment is left before */
	uint16_t in_host;       /* general registers that are in the host's of the same number; the others are in memory */
	uint8_t rax_at;         /* but RAX, when it is in the host, is in this one */
	bool fl_slot, fl_host;  /* where the arithmetic flags are; if both, in the former */
	uint16_t live_flags;    /* the flags that someone reads from here on; others may have older values */
	uint64_t rsp_delta;     /* what to add to the host's RSP */
};

/* What translating once more looks for. */
struct tr_track {
	uint32_t target;        /* code offset */
	struct bt_place place;
	uint32_t start;         /* of the instruction; not beyond TARGET */
	uint32_t end, last;     /* of the instructions, and of the cold paths and exits behind them */
	bool has_begun;         /* the instruction has changed something */
	uint32_t access;        /* the last host instruction that may fault, which is described; not beyond TARGET */
	bool is_coarse;         /* of the instruction nothing but its beginning is described */
};

/* For a processor that has its cache. -ENOMEM. */
int bt_describe_new(struct bt_cpu *b);
void bt_describe_free(struct bt_cpu *b);

/* The guest at host address PC. False: that is not in a fragment. In a cold path or an exit, RIP is the fragment's first
 * instruction and nothing is exact: code is on its way to C. */
bool bt_describe(struct bt_cpu *b, const void *pc, struct bt_place *out);

/* The guest's general registers and arithmetic flags at an exact PLACE, from the host's. */
void bt_place_registers(const struct bt_cpu *b, const struct bt_place *p, const uint64_t host[16], uint64_t host_flags,
			uint64_t gpr[16], uint64_t *flags);

#endif
