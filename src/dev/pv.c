/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/pv.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include "util/checked.h"
#include "util/endian.h"
#include "util/err.h"

enum { MSR_STEAL_TIME = 0x4b564d03 };

/* The MSR: bit 0 enables, the structure is aligned to 64 bytes. */
#define STEAL_ENABLED 1ull
#define STEAL_RESERVED 0x3eull

/* struct kvm_steal_time of the ABI. */
struct pv_steal_time {
	le64 steal;
	le32 version;           /* odd while being changed */
	le32 flags;
	uint8_t preempted;      /* enum pv_preempted */
	uint8_t pad[3];
	le32 pad2[11];
};
_Static_assert(sizeof(struct pv_steal_time) == 64, "ABI of steal time");

enum pv_preempted { PREEMPTED = 1, FLUSH_TLB = 2 };

enum hypercall { HC_VAPIC_POLL_IRQ = 1, HC_KICK_CPU = 5, HC_SEND_IPI = 10, HC_SCHED_YIELD = 11 };
enum { E_NOSYS = 1000 };        /* KVM_ENOSYS */

enum { TICK_NS = 1000 * 1000 };

struct pv_cpu {
	struct pv_state s;
	/* While executing: when the interval that is not accounted yet began. */
	uint64_t wall_ns, ran_ns;
};

struct pv {
	unsigned n_cpus;
	struct gmem *mem;
	struct source *source;
	const struct pv_ops *ops;
	void *arg;
	struct pv_cpu cpu[];
};

static const struct field pv_fields[] = {
	FIELD(struct pv_state, steal_msr, 1),
	FIELD(struct pv_state, steal_ns, 1),
	FIELD(struct pv_state, version, 1),
};
const struct state_desc pv_state_desc = {
	.name = "pv", .version = 1, .size = sizeof(struct pv_state),
	.n_fields = ARRAY_LEN(pv_fields), .fields = pv_fields,
};

/* --- steal time --- */

static bool pv_is_enabled(const struct pv_cpu *c)
{
	return c->s.steal_msr & STEAL_ENABLED;
}

static gpa_t pv_steal_gpa(const struct pv_cpu *c)
{
	return c->s.steal_msr & ~(STEAL_ENABLED | STEAL_RESERVED);
}

/* The guest's byte. Others exchange it at the same time; an address that is not RAM has none. */
static _Atomic uint8_t *pv_preempted(const struct pv *p, const struct pv_cpu *c)
{
	if (!pv_is_enabled(c))
		return NULL;
	return gmem_ptr(p->mem, pv_steal_gpa(c) + offsetof(struct pv_steal_time, preempted), 1);
}

static void pv_wrote_preempted(struct pv *p, const struct pv_cpu *c)
{
	uint64_t off = gmem_offset(p->mem, pv_steal_gpa(c) + offsetof(struct pv_steal_time, preempted), 1);

	gmem_wrote(p->mem, off, 1);
}

/* The guest reads its own structure only, so that between the versions no order beyond that of stores is
 * needed; x86 keeps it. */
static void pv_publish(struct pv *p, struct pv_cpu *c)
{
	gpa_t at = pv_steal_gpa(c);
	uint8_t v[4], steal[8];

	put_le64(steal, c->s.steal_ns);
	put_le32(v, c->s.version + 1);
	if (gmem_write(p->mem, at + offsetof(struct pv_steal_time, version), v, sizeof(v)) < 0 ||
	    gmem_write(p->mem, at + offsetof(struct pv_steal_time, steal), steal, sizeof(steal)) < 0)
		return;         /* not RAM: the guest's mistake */
	c->s.version += 2;
	put_le32(v, c->s.version);
	if (gmem_write(p->mem, at + offsetof(struct pv_steal_time, version), v, sizeof(v)) < 0)
		return;
}

static void pv_begin_interval(struct pv *p, struct pv_cpu *c)
{
	c->wall_ns = source_now_ns(p->source);
	c->ran_ns = source_thread_ns(p->source);
}

/* Time that passed while this thread wanted to run, less what it ran. */
static void pv_account(struct pv *p, struct pv_cpu *c)
{
	uint64_t wall = c->wall_ns, ran = c->ran_ns;

	pv_begin_interval(p, c);
	uint64_t passed = c->wall_ns - wall, used = c->ran_ns - ran;

	if (passed <= used)
		return;
	c->s.steal_ns += passed - used;
	pv_publish(p, c);
}

void pv_tick(struct pv *p, unsigned cpu)
{
	struct pv_cpu *c = &p->cpu[cpu];

	if (pv_is_enabled(c) && source_now_ns(p->source) - c->wall_ns >= TICK_NS)
		pv_account(p, c);
}

void pv_idle(struct pv *p, unsigned cpu)
{
	struct pv_cpu *c = &p->cpu[cpu];
	_Atomic uint8_t *preempted = pv_preempted(p, c);

	if (!preempted)
		return;
	pv_account(p, c);
	atomic_store(preempted, PREEMPTED);
	pv_wrote_preempted(p, c);
}

bool pv_busy(struct pv *p, unsigned cpu)
{
	struct pv_cpu *c = &p->cpu[cpu];
	_Atomic uint8_t *preempted = pv_preempted(p, c);

	if (!preempted)
		return false;
	uint8_t was = atomic_exchange(preempted, 0);

	pv_wrote_preempted(p, c);
	pv_begin_interval(p, c);
	return was & FLUSH_TLB;
}

bool pv_has_msr(uint32_t msr)
{
	return msr == MSR_STEAL_TIME;
}

int pv_msr_read(struct pv *p, unsigned cpu, uint32_t msr, uint64_t *val)
{
	if (cpu >= p->n_cpus || !pv_has_msr(msr))
		return -1;
	*val = p->cpu[cpu].s.steal_msr;
	return 0;
}

int pv_msr_write(struct pv *p, unsigned cpu, uint32_t msr, uint64_t val)
{
	if (cpu >= p->n_cpus || !pv_has_msr(msr) || (val & STEAL_RESERVED))
		return -1;
	struct pv_cpu *c = &p->cpu[cpu];

	c->s = (struct pv_state){ .steal_msr = val };
	if (pv_is_enabled(c)) {
		pv_begin_interval(p, c);
		pv_publish(p, c);
	}
	return 0;
}

/* --- hypercalls --- */

int64_t pv_hypercall(struct pv *p, unsigned cpu, uint64_t nr, const uint64_t a[4])
{
	switch (nr) {
	case HC_VAPIC_POLL_IRQ:
		return 0;               /* interrupts are looked at between any two instructions */
	case HC_KICK_CPU:
		if (a[1] < p->n_cpus)
			p->ops->kick(p->arg, (uint32_t)a[1]);
		return 0;
	case HC_SEND_IPI:
		return p->ops->send_ipi(p->arg, a, (uint32_t)a[2], (uint32_t)a[3]);
	case HC_SCHED_YIELD:
		sched_yield();
		return 0;
	default:
		return -E_NOSYS;
	}
}

/* --- life --- */

int pv_new(struct pv **out, unsigned n_cpus, struct gmem *mem, struct source *source, const struct pv_ops *ops,
	   void *arg, struct err *err)
{
	struct pv *p = calloc(1, sizeof(*p) + n_cpus * sizeof(p->cpu[0]));

	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	p->n_cpus = n_cpus;
	p->mem = mem;
	p->source = source;
	p->ops = ops;
	p->arg = arg;
	*out = p;
	return 0;
}

void pv_free(struct pv *p)
{
	free(p);
}

void pv_cpu_reset(struct pv *p, unsigned cpu)
{
	p->cpu[cpu] = (struct pv_cpu){ .wall_ns = 0 };
}

void pv_reset(struct pv *p)
{
	for (unsigned i = 0; i < p->n_cpus; i++)
		pv_cpu_reset(p, i);
}

void pv_state_get(struct pv *p, unsigned cpu, struct pv_state *out)
{
	*out = p->cpu[cpu].s;
}

/* Its interval begins when it runs. */
void pv_state_set(struct pv *p, unsigned cpu, const struct pv_state *in)
{
	p->cpu[cpu].s = *in;
	p->cpu[cpu].s.version &= ~1u;
}
