/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupt messages: from the ICR, from devices, from the LINT pins; and which APICs they are
 * for (SDM vol. 3 11.6.2). */
#include "dev/lapic_priv.h"

enum {
	ICR_LOGICAL = 1 << 11,
	ICR_ASSERT = 1 << 14,
	ICR_LEVEL = 1 << 15,
	ICR_SHORTHAND_SHIFT = 18,
	LVT_MODE_SHIFT = 8,
};

enum lapic_shorthand { SHORT_NONE, SHORT_SELF, SHORT_ALL, SHORT_OTHERS };

struct lapic_msg {
	uint8_t vector;
	uint8_t mode;           /* enum lapic_mode */
	bool is_level;
	bool is_logical;
	bool is_broadcast;      /* DEST does not count */
	uint32_t dest;
};

/* Logical destinations in the format of the receiving APIC (SDM vol. 3 11.6.2.2, 11.12.10.1). */
static bool lapic_match_logical_locked(const struct lapic *a, uint32_t dest)
{
	uint32_t ldr = a->s.ldr;

	if (lapic_is_x2(a))
		return ldr >> 16 == dest >> 16 && (ldr & dest & 0xffff);
	ldr >>= 24;
	if (a->s.dfr >> 28 == 0xf)
		return ldr & dest;
	return ldr >> 4 == dest >> 4 && (ldr & dest & 0xf);
}

static bool lapic_match(struct lapic *a, const struct lapic_msg *m)
{
	bool hit;

	if (m->is_broadcast)
		return true;
	lapic_lock(a);
	hit = m->is_logical ? lapic_is_on(a) && lapic_match_logical_locked(a, m->dest) : a->s.id == m->dest;
	lapic_unlock(a);
	return hit;
}

static void lapic_deliver(struct lapic *a, const struct lapic_msg *m)
{
	const struct lapics *l = a->l;

	switch (m->mode) {
	case MODE_FIXED:
	case MODE_LOWEST:
		lapic_lock(a);
		if (lapic_is_on(a) && (a->s.svr & SVR_ENABLED))
			lapic_accept_locked(a, m->vector, m->is_level);
		lapic_unlock(a);
		break;
	case MODE_NMI:
		l->ops->nmi(l->ops_arg, a->cpu);
		break;
	case MODE_INIT:
		lapic_lock(a);
		lapic_init_state_locked(a);
		lapic_unlock(a);
		l->ops->init(l->ops_arg, a->cpu);
		break;
	case MODE_SIPI:
		l->ops->sipi(l->ops_arg, a->cpu, m->vector);
		break;
	default:
		break;          /* SMI and ExtINT messages have no receiver here */
	}
}

/* The matching APIC whose processor does the least important work; the search starts behind
 * the last winner so that equals take turns. */
static void lapics_deliver_lowest(struct lapics *l, const struct lapic_msg *m)
{
	unsigned start = atomic_fetch_add_explicit(&l->next_lowest, 1, memory_order_relaxed);
	struct lapic *best = NULL;
	unsigned best_ppr = 256;

	for (unsigned i = 0; i < l->n_cpus; i++) {
		struct lapic *a = &l->cpu[(start + i) % l->n_cpus];
		unsigned ppr = 256;

		if (!lapic_match(a, m))
			continue;
		lapic_lock(a);
		if (lapic_is_on(a) && (a->s.svr & SVR_ENABLED))
			ppr = lapic_ppr_locked(a);
		lapic_unlock(a);
		if (ppr < best_ppr) {
			best = a;
			best_ppr = ppr;
		}
	}
	if (best)
		lapic_deliver(best, m);
}

/* SKIP: this one is left out; NULL: nobody is. */
static void lapics_deliver(struct lapics *l, const struct lapic_msg *m, const struct lapic *skip)
{
	/* Usually an APIC has its number; a guest may give several the same one. */
	if (!m->is_broadcast && !m->is_logical && !atomic_load_explicit(&l->has_own_ids, memory_order_relaxed)) {
		if (m->dest < l->n_cpus)
			lapic_deliver(&l->cpu[m->dest], m);
		return;
	}
	if (m->mode == MODE_LOWEST) {
		lapics_deliver_lowest(l, m);
		return;
	}
	for (unsigned i = 0; i < l->n_cpus; i++) {
		if (&l->cpu[i] != skip && lapic_match(&l->cpu[i], m))
			lapic_deliver(&l->cpu[i], m);
	}
}

void lapic_send_ipi(struct lapic *from, uint64_t icr, bool is_x2)
{
	struct lapic_msg m = {
		.vector = (uint8_t)icr,
		.mode = icr >> 8 & 7,
		.is_logical = icr & ICR_LOGICAL,
		.dest = is_x2 ? (uint32_t)(icr >> 32) : (uint32_t)(icr >> 56),
	};
	unsigned shorthand = icr >> ICR_SHORTHAND_SHIFT & 3;

	if (m.mode == MODE_INIT && (icr & ICR_LEVEL) && !(icr & ICR_ASSERT))
		return;         /* INIT level de-assert: for old bus arbitration only */
	if (m.mode <= MODE_LOWEST && m.vector < 16) {
		lapic_lock(from);
		lapic_error_locked(from, ESR_SEND_ILLEGAL);
		lapic_unlock(from);
		return;
	}
	m.is_broadcast = shorthand >= SHORT_ALL || m.dest == (is_x2 ? 0xffffffff : 0xff);
	if (shorthand == SHORT_SELF) {
		if (m.mode <= MODE_LOWEST)
			lapic_deliver(from, &m);
		return;
	}
	lapics_deliver(from->l, &m, shorthand == SHORT_OTHERS ? from : NULL);
}

unsigned lapics_send_mask(struct lapics *l, const uint64_t mask[2], uint32_t first, uint32_t low)
{
	struct lapic_msg m = { .vector = (uint8_t)low, .mode = low >> 8 & 7 };
	unsigned n = 0;

	if (m.mode != MODE_NMI && (m.mode != MODE_FIXED || m.vector < 16))
		return 0;
	for (unsigned i = 0; i < 128; i++) {
		uint64_t id = (uint64_t)first + i;

		if (!(mask[i / 64] >> (i % 64) & 1) || id >= l->n_cpus)
			continue;
		lapic_deliver(&l->cpu[id], &m);
		n++;
	}
	return n;
}

static void lapics_msi(void *arg, uint64_t addr, uint32_t data)
{
	struct lapics *l = arg;
	struct lapic_msg m = {
		.vector = (uint8_t)data,
		.mode = data >> 8 & 7,
		.is_level = data & 1 << 15,
		.is_logical = addr & 1 << 2,
		.dest = addr >> 12 & 0xff,
	};

	if (addr >> 20 != 0xfee || m.mode == MODE_SIPI)
		return;         /* a write to elsewhere; start-up has no MSI form */
	m.is_broadcast = m.dest == 0xff;
	/* redirection hint with a logical destination: to one of the set */
	if (m.mode == MODE_FIXED && (addr & 1 << 3) && m.is_logical)
		m.mode = MODE_LOWEST;
	lapics_deliver(l, &m, NULL);
}

struct msi_sink lapics_msi_sink(struct lapics *l)
{
	return (struct msi_sink){ .send = lapics_msi, .arg = l };
}

/* A LINT pin went up: what its LVT entry says. ExtINT is a level, not an event: the PIC is
 * asked when the processor acknowledges. */
static void lapic_lint_rise(struct lapic *a, unsigned lvt_index)
{
	lapic_lock(a);
	uint32_t lvt = a->s.lvt[lvt_index];
	struct lapic_msg m = { .vector = (uint8_t)lvt, .mode = lvt >> LVT_MODE_SHIFT & 7 };
	bool is_open = lapic_is_on(a) && !(lvt & LVT_MASKED);

	if (lvt_index == LAPIC_LVT_LINT0 && atomic_load(&a->takes_extint))
		a->must_kick = true;
	lapic_unlock(a);
	if (is_open && (m.mode == MODE_FIXED || m.mode == MODE_NMI))
		lapic_deliver(a, &m);
}

void lapics_set_lint0(struct lapics *l, int level)
{
	if (atomic_exchange(&l->lint0, level != 0) || !level)
		return;
	for (unsigned i = 0; i < l->n_cpus; i++)
		lapic_lint_rise(&l->cpu[i], LAPIC_LVT_LINT0);
}

void lapics_pulse_lint1(struct lapics *l)
{
	for (unsigned i = 0; i < l->n_cpus; i++)
		lapic_lint_rise(&l->cpu[i], LAPIC_LVT_LINT1);
}
