/* SPDX-License-Identifier: Apache-2.0 */
#include "bus/bus.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include "util/checked.h"
#include "util/err.h"

/* Regions of one space, sorted by base; they never overlap. */
struct bus_map {
	struct bus_region **r;
	unsigned n, cap;
};

struct bus {
	pthread_mutex_t lock;           /* bus_lock(): devices, and changes of the maps */
	/* Guards the maps against changes while a thread without bus_lock searches them. Held
	 * for the search only, so that a region may take bus_lock itself. */
	pthread_rwlock_t map_lock;
	struct bus_map map[2];          /* by enum bus_space */
};

int bus_new(struct bus **out, struct err *err)
{
	struct bus *b = calloc(1, sizeof(*b));

	if (!b)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&b->lock, NULL);

	/* searches follow each other closely on many vCPUs: a change must not wait for ever */
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&b->map_lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	*out = b;
	return 0;
}

void bus_free(struct bus *b)
{
	if (!b)
		return;
	for (unsigned i = 0; i < ARRAY_LEN(b->map); i++)
		free(b->map[i].r);
	pthread_rwlock_destroy(&b->map_lock);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

void bus_lock(struct bus *b)
{
	pthread_mutex_lock(&b->lock);
}

void bus_unlock(struct bus *b)
{
	pthread_mutex_unlock(&b->lock);
}

/* Index of the first region whose base is above ADDR. */
static unsigned bus_map_above(const struct bus_map *m, uint64_t addr)
{
	unsigned lo = 0, hi = m->n;

	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;

		if (m->r[mid]->base <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* The region that holds all of [addr, addr+size), or NULL. */
static struct bus_region *bus_map_find(const struct bus_map *m, uint64_t addr, unsigned size)
{
	unsigned i = bus_map_above(m, addr);

	if (!i)
		return NULL;
	struct bus_region *r = m->r[i - 1];

	return range_fits(addr - r->base, size, r->size) ? r : NULL;
}

int bus_add(struct bus *b, enum bus_space space, struct bus_region *r, uint64_t base, uint64_t size,
	    struct err *err)
{
	struct bus_map *m = &b->map[space];
	uint64_t limit = space == BUS_PORT ? 0x10000 : UINT64_MAX;

	if (!size || !range_fits(base, size, limit))
		return err_set(err, -EINVAL, "region '%s' at 0x%llx is empty or does not fit its address space",
			       r->name, (unsigned long long)base);
	if (r->is_mapped)
		return err_set(err, -EINVAL, "region '%s' is mapped already", r->name);

	unsigned i = bus_map_above(m, base);
	const struct bus_region *other = NULL;

	if (i && range_overlaps(base, size, m->r[i - 1]->base, m->r[i - 1]->size))
		other = m->r[i - 1];
	else if (i < m->n && range_overlaps(base, size, m->r[i]->base, m->r[i]->size))
		other = m->r[i];
	if (other)
		return err_set(err, -EEXIST, "region '%s' at 0x%llx overlaps '%s' at 0x%llx", r->name,
			       (unsigned long long)base, other->name, (unsigned long long)other->base);

	pthread_rwlock_wrlock(&b->map_lock);
	if (m->n == m->cap) {
		unsigned cap = m->cap ? 2 * m->cap : 32;
		void *p = realloc(m->r, cap * sizeof(*m->r));

		if (!p) {
			pthread_rwlock_unlock(&b->map_lock);
			return err_set(err, -ENOMEM, "out of memory");
		}
		m->r = p;
		m->cap = cap;
	}
	memmove(&m->r[i + 1], &m->r[i], (m->n - i) * sizeof(*m->r));
	m->r[i] = r;
	m->n++;
	r->base = base;
	r->size = size;
	r->is_mapped = true;
	pthread_rwlock_unlock(&b->map_lock);
	return 0;
}

void bus_remove(struct bus *b, enum bus_space space, struct bus_region *r)
{
	struct bus_map *m = &b->map[space];

	if (!r->is_mapped)
		return;
	unsigned i = bus_map_above(m, r->base);

	if (!i || m->r[i - 1] != r)
		return;         /* mapped, but in the other space */
	pthread_rwlock_wrlock(&b->map_lock);
	memmove(&m->r[i - 1], &m->r[i], (m->n - i) * sizeof(*m->r));
	m->n--;
	r->is_mapped = false;
	pthread_rwlock_unlock(&b->map_lock);
}

static uint64_t bus_ones(unsigned size)
{
	return size >= 8 ? UINT64_MAX : (1ull << (8 * size)) - 1;
}

static uint64_t bus_region_read(const struct bus_region *r, unsigned cpu, uint64_t off, unsigned size)
{
	uint64_t val = 0;

	if (!(r->flags & BUS_BYTES))
		return r->read(r->dev, cpu, off, size) & bus_ones(size);
	for (unsigned i = 0; i < size; i++)
		val |= (r->read(r->dev, cpu, off + i, 1) & 0xff) << (8 * i);
	return val;
}

static void bus_region_write(const struct bus_region *r, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	if (!(r->flags & BUS_BYTES)) {
		r->write(r->dev, cpu, off, size, val & bus_ones(size));
		return;
	}
	for (unsigned i = 0; i < size; i++)
		r->write(r->dev, cpu, off + i, 1, (val >> (8 * i)) & 0xff);
}

/* An access on its way: the region that answers, or NULL, and the offset in it. */
struct bus_access {
	const struct bus_region *r;
	uint64_t off;
	bool is_locked;         /* bus_lock is held until bus_end() */
};

static struct bus_access bus_map_access(const struct bus_map *m, uint64_t addr, unsigned size)
{
	const struct bus_region *r = bus_map_find(m, addr, size);

	return (struct bus_access){ .r = r, .off = r ? addr - r->base : 0 };
}

/* Find the region for an access. An unlocked one is called with no lock held. Any other is
 * looked for again under bus_lock, since it may have gone while this thread waited. */
static struct bus_access bus_begin(struct bus *b, enum bus_space space, uint64_t addr, unsigned size)
{
	const struct bus_map *m = &b->map[space];

	pthread_rwlock_rdlock(&b->map_lock);
	struct bus_access a = bus_map_access(m, addr, size);

	pthread_rwlock_unlock(&b->map_lock);
	if (!a.r || (a.r->flags & BUS_UNLOCKED))
		return a;
	bus_lock(b);
	a = bus_map_access(m, addr, size);
	if (a.r && (a.r->flags & BUS_UNLOCKED)) {
		bus_unlock(b);
		return a;
	}
	a.is_locked = true;
	return a;
}

static void bus_end(struct bus *b, const struct bus_access *a)
{
	if (a->is_locked)
		bus_unlock(b);
}

uint64_t bus_read(struct bus *b, enum bus_space space, unsigned cpu, uint64_t addr, unsigned size)
{
	struct bus_access a = bus_begin(b, space, addr, size);
	uint64_t val = a.r ? bus_region_read(a.r, cpu, a.off, size) : bus_ones(size);

	bus_end(b, &a);
	return val;
}

void bus_write(struct bus *b, enum bus_space space, unsigned cpu, uint64_t addr, unsigned size, uint64_t val)
{
	struct bus_access a = bus_begin(b, space, addr, size);

	if (a.r)
		bus_region_write(a.r, cpu, a.off, size, val);
	bus_end(b, &a);
}

void bus_each(struct bus *b, enum bus_space space, void (*fn)(void *arg, const struct bus_region *r), void *arg)
{
	bus_lock(b);
	for (unsigned i = 0; i < b->map[space].n; i++)
		fn(arg, b->map[space].r[i]);
	bus_unlock(b);
}
