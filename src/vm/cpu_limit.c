/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/cpu_limit.h"

#include <errno.h>
#include <string.h>
#include "util/checked.h"
#include "util/err.h"
#include "util/str.h"
#include "vm/machine_priv.h"

#define LOOK_NS 5000000u                /* between two looks */
#define SAVED_NS 20000000               /* of host time: what may be used at once after idling */

static void limit_rest(struct cpu_limit *l, bool on)
{
	if (l->is_resting != on)
		vcpus_rest(l->m->vcpus, VCPUS_REST_LIMIT, on);
	l->is_resting = on;
}

static void limit_look(struct loop_timer *timer)
{
	struct cpu_limit *l = container_of(timer, struct cpu_limit, timer);
	uint64_t now = loop_now_ns(), used = vcpus_cpu_ns(l->m->vcpus), dt = now - l->seen_ns;
	int64_t most = (int64_t)SAVED_NS * l->limit / CPU_LIMIT_ONE;

	if (dt > 1000000000u)
		dt = 1000000000u;       /* this process itself was stopped */
	l->credit_ns += (int64_t)(dt * l->limit / CPU_LIMIT_ONE) - (int64_t)(used - l->used_ns);
	if (l->credit_ns > most)
		l->credit_ns = most;
	l->seen_ns = now;
	l->used_ns = used;
	limit_rest(l, l->credit_ns < 0);
	loop_timer_set(timer, now + LOOK_NS);
}

void cpu_limit_init(struct cpu_limit *l, struct machine *m)
{
	*l = (struct cpu_limit){ .m = m };
	loop_timer_init(m->loop, &l->timer, limit_look);
}

void cpu_limit_fini(struct cpu_limit *l)
{
	loop_timer_cancel(&l->timer);
}

void cpu_limit_set(struct cpu_limit *l, unsigned limit)
{
	l->limit = limit;
	if (!limit) {
		loop_timer_cancel(&l->timer);
		limit_rest(l, false);
		return;
	}
	l->seen_ns = loop_now_ns();
	l->used_ns = vcpus_cpu_ns(l->m->vcpus);
	l->credit_ns = 0;
	loop_timer_set(&l->timer, l->seen_ns + LOOK_NS);
}

/* At most three digits after the point. */
int cpu_limit_parse(unsigned *limit, const char *text, struct err *err)
{
	const char *p = text;
	unsigned v = 0, scale = CPU_LIMIT_ONE;

	if (!strcmp(text, "none")) {
		*limit = 0;
		return 0;
	}
	for (; *p >= '0' && *p <= '9' && v < CONFIG_CPUS_MAX * 10u; p++)
		v = v * 10 + (unsigned)(*p - '0');
	v *= CPU_LIMIT_ONE;
	if (p > text && *p == '.') {
		for (p++; *p >= '0' && *p <= '9' && scale > 1; p++) {
			scale /= 10;
			v += (unsigned)(*p - '0') * scale;
		}
	}
	if (p == text || *p || v > CONFIG_CPUS_MAX * CPU_LIMIT_ONE || (v && v < CPU_LIMIT_MIN))
		return err_set(err, -EINVAL, "'%.32s' is no share of the host's processors: 0.01 to %d, as 0.5 or 2; none: no limit",
			       text, CONFIG_CPUS_MAX);
	*limit = v;
	return 0;
}
