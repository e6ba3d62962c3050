/* SPDX-License-Identifier: Apache-2.0 */
/* lockstep_door.c - what reaches the two processors from outside. What happens there must happen once: the
 * leader's accesses are real and written down, the follower gets what was written down. Where nothing was,
 * the instruction is left as by a fault, before it has done anything. Vcpu thread. */
#include "cpu/bt/lockstep_priv.h"

#include "util/checked.h"

static bool door_is_write(enum lockstep_kind kind)
{
	return kind == LOCKSTEP_PIO_WRITE || kind == LOCKSTEP_MMIO_WRITE || kind == LOCKSTEP_MSR_WRITE;
}

static void door_perform(struct lockstep *l, struct lockstep_access *a)
{
	const struct cpu_host *h = l->host;
	unsigned cpu = l->lead->index;

	switch ((enum lockstep_kind)a->kind) {
	case LOCKSTEP_PIO_READ: a->val = h->pio_read(h->arg, cpu, (uint16_t)a->addr, a->size); break;
	case LOCKSTEP_PIO_WRITE: h->pio_write(h->arg, cpu, (uint16_t)a->addr, a->size, (uint32_t)a->val); break;
	case LOCKSTEP_MMIO_READ: a->val = h->mmio_read(h->arg, cpu, a->addr, a->size); break;
	case LOCKSTEP_MMIO_WRITE: h->mmio_write(h->arg, cpu, a->addr, a->size, a->val); break;
	case LOCKSTEP_MSR_READ: a->has_failed = h->msr_read(h->arg, cpu, (uint32_t)a->addr, &a->val) < 0; break;
	case LOCKSTEP_MSR_WRITE: a->has_failed = h->msr_write(h->arg, cpu, (uint32_t)a->addr, a->val) < 0; break;
	case LOCKSTEP_CR8_READ: a->val = h->cr8_read(h->arg, cpu); break;
	case LOCKSTEP_CR8_WRITE: h->cr8_write(h->arg, cpu, (unsigned)a->val); break;
	case LOCKSTEP_TSC_CHANGED: h->tsc_changed(h->arg, cpu); break;
	case LOCKSTEP_TIME: a->val = source_tsc(l->source); break;
	case LOCKSTEP_RANDOM: source_random(l->source, &a->val, a->size); break;
	}
}

static bool door_replay(struct lockstep_door *d, struct lockstep_access *a)
{
	struct lockstep *l = d->l;
	const struct lockstep_access *had = &l->accesses[d->at];

	if (d->at == l->n_accesses || had->kind != a->kind || had->size != a->size || had->addr != a->addr ||
	    (door_is_write(a->kind) && had->val != a->val))
		return false;
	*a = *had;
	d->at++;
	return true;
}

static void door_use(struct lockstep_door *d, struct lockstep_access *a)
{
	struct lockstep *l = d->l;

	if (d->mode == LOCKSTEP_REPLAY && door_replay(d, a))
		return;
	if (d->mode == LOCKSTEP_REPLAY || d->mode == LOCKSTEP_HOLD)
		icpu_raise(d == &l->bt_door ? &l->bt->i : l->lead, LOCKSTEP_UNWOUND);
	if (a->kind != LOCKSTEP_TIME && a->kind != LOCKSTEP_RANDOM) {
		lockstep_flush(l);
		l->wants_sync = true;
	}
	door_perform(l, a);
	if (d->mode != LOCKSTEP_RECORD)
		return;
	if (l->n_accesses == LOCKSTEP_MAX_ACCESSES)
		l->is_full = true;
	else
		l->accesses[l->n_accesses++] = *a;
}

/* --- struct cpu_host ---------------------------------------------------------------------------- */

static uint64_t door_value(void *arg, enum lockstep_kind kind, uint64_t addr, unsigned size, uint64_t val)
{
	struct lockstep_access a = { .kind = kind, .size = (uint8_t)size, .addr = addr, .val = val };

	door_use(arg, &a);
	return a.val;
}

static uint32_t door_pio_read(void *arg, unsigned cpu, uint16_t port, unsigned size)
{
	(void)cpu;
	return (uint32_t)door_value(arg, LOCKSTEP_PIO_READ, port, size, 0);
}

static void door_pio_write(void *arg, unsigned cpu, uint16_t port, unsigned size, uint32_t val)
{
	(void)cpu;
	door_value(arg, LOCKSTEP_PIO_WRITE, port, size, val);
}

static uint64_t door_mmio_read(void *arg, unsigned cpu, gpa_t gpa, unsigned size)
{
	(void)cpu;
	return door_value(arg, LOCKSTEP_MMIO_READ, gpa, size, 0);
}

static void door_mmio_write(void *arg, unsigned cpu, gpa_t gpa, unsigned size, uint64_t val)
{
	(void)cpu;
	door_value(arg, LOCKSTEP_MMIO_WRITE, gpa, size, val);
}

static int door_msr_read(void *arg, unsigned cpu, uint32_t msr, uint64_t *val)
{
	struct lockstep_access a = { .kind = LOCKSTEP_MSR_READ, .addr = msr };

	(void)cpu;
	door_use(arg, &a);
	if (!a.has_failed)
		*val = a.val;
	return a.has_failed ? -1 : 0;
}

static int door_msr_write(void *arg, unsigned cpu, uint32_t msr, uint64_t val)
{
	struct lockstep_access a = { .kind = LOCKSTEP_MSR_WRITE, .addr = msr, .val = val };

	(void)cpu;
	door_use(arg, &a);
	return a.has_failed ? -1 : 0;
}

static unsigned door_cr8_read(void *arg, unsigned cpu)
{
	(void)cpu;
	return (unsigned)door_value(arg, LOCKSTEP_CR8_READ, 0, 0, 0);
}

static void door_cr8_write(void *arg, unsigned cpu, unsigned val)
{
	(void)cpu;
	door_value(arg, LOCKSTEP_CR8_WRITE, 0, 0, val);
}

static void door_tsc_changed(void *arg, unsigned cpu)
{
	(void)cpu;
	door_value(arg, LOCKSTEP_TSC_CHANGED, 0, 0, 0);
}

/* Interrupts are the leader's, between what is compared. */
static int door_intr_ack(void *arg, unsigned cpu)
{
	const struct cpu_host *h = ((struct lockstep_door *)arg)->l->host;

	return h->intr_ack(h->arg, cpu);
}

static bool door_intr_pending(void *arg, unsigned cpu)
{
	const struct cpu_host *h = ((struct lockstep_door *)arg)->l->host;

	return h->intr_pending(h->arg, cpu);
}

static void door_eoi(void *arg, uint8_t vector)
{
	const struct cpu_host *h = ((struct lockstep_door *)arg)->l->host;

	h->eoi(h->arg, vector);
}

/* --- struct source ---------------------------------------------------------------------------------- */

static struct lockstep_door *door_of(struct source *s)
{
	return container_of(s, struct lockstep_door, source);
}

/* Processors ask for nothing but the TSC and random numbers. */
static uint64_t door_now(struct source *s) { return source_now_ns(door_of(s)->l->source); }
static uint64_t door_wall(struct source *s) { return source_wall_ns(door_of(s)->l->source); }
static uint64_t door_tsc(struct source *s) { return door_value(door_of(s), LOCKSTEP_TIME, 0, 0, 0); }

static void door_random(struct source *s, void *buf, size_t len)
{
	for (uint8_t *p = buf; len; ) {
		unsigned n = len < sizeof(uint64_t) ? (unsigned)len : sizeof(uint64_t);
		uint64_t v = door_value(door_of(s), LOCKSTEP_RANDOM, 0, n, 0);

		memcpy(p, &v, n);
		p += n;
		len -= n;
	}
}

void lockstep_door_init(struct lockstep_door *d, struct lockstep *l)
{
	*d = (struct lockstep_door){
		.host = {
			.arg = d,
			.pio_read = door_pio_read, .pio_write = door_pio_write,
			.mmio_read = door_mmio_read, .mmio_write = door_mmio_write,
			.msr_read = door_msr_read, .msr_write = door_msr_write,
			.intr_ack = door_intr_ack, .intr_pending = door_intr_pending,
			.cr8_read = door_cr8_read, .cr8_write = door_cr8_write, .eoi = door_eoi,
			.tsc_changed = l->host->tsc_changed ? door_tsc_changed : NULL,
		},
		.source = { .now_ns = door_now, .wall_ns = door_wall, .tsc = door_tsc, .random = door_random },
		.l = l,
	};
	if (l->source)
		d->source.tsc_hz = l->source->tsc_hz;
}
