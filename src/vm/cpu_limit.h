/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_limit.h - how much of the host's processors a machine's processors may use, all together. What they use is
 * measured: a guest that idles saves nothing up beyond a moment, one that computes rests as long as it takes. The guest's
 * clocks go on meanwhile. Loop thread. */
#ifndef VM_CPU_LIMIT_H
#define VM_CPU_LIMIT_H

#include <stdbool.h>
#include <stdint.h>
#include "util/loop.h"

struct err;
struct machine;

enum { CPU_LIMIT_ONE = 1000, CPU_LIMIT_MIN = 10 };      /* thousandths of a host processor */

struct cpu_limit {
	struct machine *m;
	struct loop_timer timer;
	unsigned limit;                 /* thousandths; 0: none */
	uint64_t seen_ns, used_ns;      /* host time, time of the threads at the last look */
	int64_t credit_ns;              /* of the threads' time; below 0 they rest */
	bool is_resting;
};

void cpu_limit_init(struct cpu_limit *l, struct machine *m);
void cpu_limit_fini(struct cpu_limit *l);
/* LIMIT: 0 or at least CPU_LIMIT_MIN. */
void cpu_limit_set(struct cpu_limit *l, unsigned limit);
/* "0.5", "2", "none" or "0". -EINVAL. */
int cpu_limit_parse(unsigned *limit, const char *text, struct err *err);

#endif
