/* SPDX-License-Identifier: Apache-2.0 */
/* sched_setattr(2): sched_runtime of a thread of SCHED_OTHER is the length of its turn, 0.1 to 100 ms; 0: as usual. */
#include "util/prompt.h"

#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TURN_NS 100000u

/* As in linux/sched/types.h, which does not go along with sched.h. */
struct thread_attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

void thread_be_prompt(bool on)
{
	struct thread_attr a = { .size = sizeof(a) };

	if (syscall(SYS_sched_getattr, 0, &a, sizeof(a), 0) < 0 || a.policy != SCHED_OTHER)
		return;
	a = (struct thread_attr){ .size = sizeof(a), .policy = SCHED_OTHER, .nice = a.nice, .runtime = on ? TURN_NS : 0 };
	(void)syscall(SYS_sched_setattr, 0, &a, 0);
}
