/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/kvmclock.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include "util/checked.h"
#include "util/endian.h"
#include "util/err.h"

enum {
	MSR_WALL_OLD = 0x11, MSR_SYSTEM_OLD = 0x12,
	MSR_WALL = 0x4b564d00, MSR_SYSTEM = 0x4b564d01,
	SYSTEM_ENABLED = 1,
	FLAG_TSC_STABLE = 1 << 0, FLAG_GUEST_STOPPED = 1 << 1,
};

/* struct pvclock_vcpu_time_info and struct pvclock_wall_clock of the ABI. */
struct kvmclock_time_info {
	le32 version;           /* odd while being changed */
	le32 pad;
	le64 tsc_timestamp;
	le64 system_time;
	le32 mul;
	int8_t shift;
	uint8_t flags;
	uint8_t pad2[2];
};
struct kvmclock_wall {
	le32 version, sec, nsec;
};
_Static_assert(sizeof(struct kvmclock_time_info) == 32, "ABI of the paravirtual clock");
_Static_assert(sizeof(struct kvmclock_wall) == 12, "ABI of the paravirtual clock");

struct kvmclock_scale {
	uint32_t mul;           /* ns = ((tsc << shift) * mul) >> 32 */
	int shift;              /* negative: right */
};

struct kvmclock {
	unsigned n_cpus;
	struct gmem *mem;
	struct source *source;
	uint64_t (*tsc_offset)(void *arg, unsigned cpu);
	void *arg;
	struct kvmclock_scale scale;
	/* Set when vCPUs are stopped; read by all. */
	uint64_t base_tsc, base_ns;
	pthread_mutex_t lock;   /* guards wall_version: several vCPUs may ask for the wall clock */
	uint32_t wall_version;
	struct kvmclock_state cpu[];    /* each its own vCPU's */
};

static const struct field kvmclock_fields[] = {
	FIELD(struct kvmclock_state, system_time_msr, 1),
	FIELD(struct kvmclock_state, wall_clock_msr, 1),
	FIELD(struct kvmclock_state, version, 1),
};
const struct state_desc kvmclock_state_desc = {
	.name = "kvmclock", .version = 1, .size = sizeof(struct kvmclock_state),
	.n_fields = ARRAY_LEN(kvmclock_fields), .fields = kvmclock_fields,
};

static const struct field kvmclock_base_fields[] = {
	FIELD(struct kvmclock_base, tsc, 1),
	FIELD(struct kvmclock_base, ns, 1),
	FIELD(struct kvmclock_base, wall_version, 1),
};
const struct state_desc kvmclock_base_desc = {
	.name = "kvmclock base", .version = 1, .size = sizeof(struct kvmclock_base),
	.n_fields = ARRAY_LEN(kvmclock_base_fields), .fields = kvmclock_base_fields,
};

/* Shift the frequency into (1 GHz, 2 GHz], so that the factor uses all of its 32 bits. */
static struct kvmclock_scale kvmclock_scale_of(uint64_t hz)
{
	const uint64_t ghz = 1000000000u;
	struct kvmclock_scale s = { .shift = 0 };

	while (hz > 2 * ghz) {
		hz >>= 1;
		s.shift--;
	}
	while (hz && hz <= ghz) {
		hz <<= 1;
		s.shift++;
	}
	s.mul = hz ? (uint32_t)((ghz << 32) / hz) : 0;
	return s;
}

static void kvmclock_take_pair(struct kvmclock *k)
{
	k->base_ns = source_now_ns(k->source);
	k->base_tsc = source_tsc(k->source);
}

/* Write LEN bytes whose first four are the version. Readers retry while it is odd or has
 * changed, so it is odd before and even after, and the rest lies between. An address that is
 * not RAM is the guest's mistake: nothing is written. */
static void kvmclock_publish(struct kvmclock *k, gpa_t gpa, void *info, size_t len, uint32_t *version)
{
	uint8_t v[4];

	*version = (*version | 1) + 2;          /* odd */
	put_le32(v, *version);
	if (gmem_write(k->mem, gpa, v, sizeof(v)) < 0)
		return;
	atomic_thread_fence(memory_order_seq_cst);
	put_le32(info, *version);
	if (gmem_write(k->mem, gpa, info, len) < 0)
		return;
	atomic_thread_fence(memory_order_seq_cst);
	put_le32(v, ++*version);
	if (gmem_write(k->mem, gpa, v, sizeof(v)) < 0)
		return;
}

static void kvmclock_write_system(struct kvmclock *k, unsigned cpu, uint8_t flags)
{
	struct kvmclock_state *s = &k->cpu[cpu];
	uint64_t offset = k->tsc_offset ? k->tsc_offset(k->arg, cpu) : 0;
	struct kvmclock_time_info info = {
		.tsc_timestamp = le64_of(k->base_tsc + offset),
		.system_time = le64_of(k->base_ns),
		.mul = le32_of(k->scale.mul),
		.shift = (int8_t)k->scale.shift,
		.flags = flags,
	};

	if (s->system_time_msr & SYSTEM_ENABLED)
		kvmclock_publish(k, s->system_time_msr & ~(uint64_t)SYSTEM_ENABLED, &info, sizeof(info),
				 &s->version);
}

/* The wall clock at the moment when the system clock was 0. */
static void kvmclock_write_wall(struct kvmclock *k, gpa_t gpa)
{
	uint64_t zero = source_wall_ns(k->source) - source_now_ns(k->source);
	struct kvmclock_wall w = {
		.sec = le32_of((uint32_t)(zero / 1000000000u)),
		.nsec = le32_of((uint32_t)(zero % 1000000000u)),
	};

	pthread_mutex_lock(&k->lock);
	kvmclock_publish(k, gpa, &w, sizeof(w), &k->wall_version);
	pthread_mutex_unlock(&k->lock);
}

bool kvmclock_has_msr(uint32_t msr)
{
	return msr == MSR_WALL || msr == MSR_SYSTEM || msr == MSR_WALL_OLD || msr == MSR_SYSTEM_OLD;
}

int kvmclock_msr_read(struct kvmclock *k, unsigned cpu, uint32_t msr, uint64_t *val)
{
	if (cpu >= k->n_cpus || !kvmclock_has_msr(msr))
		return -1;
	*val = msr == MSR_SYSTEM || msr == MSR_SYSTEM_OLD ? k->cpu[cpu].system_time_msr
							  : k->cpu[cpu].wall_clock_msr;
	return 0;
}

int kvmclock_msr_write(struct kvmclock *k, unsigned cpu, uint32_t msr, uint64_t val)
{
	if (cpu >= k->n_cpus || !kvmclock_has_msr(msr))
		return -1;
	if (msr == MSR_SYSTEM || msr == MSR_SYSTEM_OLD) {
		k->cpu[cpu].system_time_msr = val;
		kvmclock_write_system(k, cpu, FLAG_TSC_STABLE);
	} else {
		k->cpu[cpu].wall_clock_msr = val;
		kvmclock_write_wall(k, val);
	}
	return 0;
}

void kvmclock_tsc_changed(struct kvmclock *k, unsigned cpu)
{
	if (cpu < k->n_cpus)
		kvmclock_write_system(k, cpu, FLAG_TSC_STABLE);
}

/* The clock as guests compute it, PASSED after it was NS. */
static uint64_t kvmclock_after(uint64_t ns, uint64_t passed, struct kvmclock_scale s)
{
	passed = s.shift < 0 ? passed >> -s.shift : passed << s.shift;
	return ns + (uint64_t)((unsigned __int128)passed * s.mul >> 32);
}

uint64_t kvmclock_base_at(const struct kvmclock_base *b, uint64_t tsc_hz, uint64_t tsc)
{
	return kvmclock_after(b->ns, tsc - b->tsc, kvmclock_scale_of(tsc_hz));
}

void kvmclock_resync(struct kvmclock *k, bool was_stopped)
{
	uint64_t tsc = source_tsc(k->source);

	k->base_ns = kvmclock_after(k->base_ns, tsc - k->base_tsc, k->scale);
	k->base_tsc = tsc;
	for (unsigned i = 0; i < k->n_cpus; i++)
		kvmclock_write_system(k, i, FLAG_TSC_STABLE | (was_stopped ? FLAG_GUEST_STOPPED : 0));
}

int kvmclock_new(struct kvmclock **out, unsigned n_cpus, struct gmem *mem, struct source *source,
		 uint64_t (*tsc_offset)(void *arg, unsigned cpu), void *arg, struct err *err)
{
	struct kvmclock *k = calloc(1, sizeof(*k) + n_cpus * sizeof(k->cpu[0]));

	if (!k)
		return err_set(err, -ENOMEM, "out of memory");
	k->n_cpus = n_cpus;
	k->mem = mem;
	k->source = source;
	k->tsc_offset = tsc_offset;
	k->arg = arg;
	pthread_mutex_init(&k->lock, NULL);
	k->scale = kvmclock_scale_of(source->tsc_hz);
	kvmclock_take_pair(k);
	*out = k;
	return 0;
}

void kvmclock_free(struct kvmclock *k)
{
	if (!k)
		return;
	pthread_mutex_destroy(&k->lock);
	free(k);
}

void kvmclock_reset(struct kvmclock *k)
{
	for (unsigned i = 0; i < k->n_cpus; i++)
		k->cpu[i] = (struct kvmclock_state){ .version = 0 };
	k->wall_version = 0;
	kvmclock_take_pair(k);
}

void kvmclock_state_get(struct kvmclock *k, unsigned cpu, struct kvmclock_state *out)
{
	*out = k->cpu[cpu];
}

void kvmclock_state_set(struct kvmclock *k, unsigned cpu, const struct kvmclock_state *in)
{
	k->cpu[cpu] = *in;
	k->cpu[cpu].version &= ~1u;
}

void kvmclock_base_get(struct kvmclock *k, struct kvmclock_base *out)
{
	*out = (struct kvmclock_base){ .tsc = k->base_tsc, .ns = k->base_ns, .wall_version = k->wall_version };
}

void kvmclock_base_set(struct kvmclock *k, const struct kvmclock_base *in)
{
	k->base_tsc = in->tsc;
	k->base_ns = in->ns;
	k->wall_version = in->wall_version & ~1u;
}
