/* SPDX-License-Identifier: Apache-2.0 */
#include "util/strmap.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { FIRST_SLOTS = 16 };

/* FNV-1a from a random start on, mixed, as the low bits choose the slot. */
static uint64_t strmap_hash(const struct strmap *m, const char *key)
{
	uint64_t h = m->seed;

	for (; *key; key++)
		h = (h ^ (uint8_t)*key) * 0x100000001b3u;
	h = (h ^ h >> 32) * 0x9e3779b97f4a7c15u;
	return h ^ h >> 29;
}

static struct strmap_entry **strmap_slot(const struct strmap *m, uint64_t hash)
{
	return m->n_slots ? &m->slots[hash & (m->n_slots - 1)] : (struct strmap_entry **)&m->few;
}

static void strmap_push(struct strmap_entry **slot, struct strmap_entry *e)
{
	e->next = *slot;
	e->at = slot;
	if (e->next)
		e->next->at = &e->next;
	*slot = e;
}

static void strmap_grow(struct strmap *m)
{
	struct strmap old = *m;
	size_t n = old.n_slots ? old.n_slots * 2 : FIRST_SLOTS;
	struct strmap_entry **slots = calloc(n, sizeof(struct strmap_entry *));

	if (!slots)
		return;
	m->slots = slots;
	m->n_slots = n;
	m->few = NULL;
	for (size_t i = 0; i < (old.n_slots ? old.n_slots : 1); i++) {
		struct strmap_entry *next;

		for (struct strmap_entry *e = *strmap_slot(&old, i); e; e = next) {
			next = e->next;
			strmap_push(strmap_slot(m, e->hash), e);
		}
	}
	free(old.slots);
}

void strmap_init(struct strmap *m)
{
	*m = (struct strmap){ .seed = 0xcbf29ce484222325u };
	/* Early in the host's start there may be no random numbers yet; nobody else is there either. */
	(void)!getrandom(&m->seed, sizeof(m->seed), GRND_NONBLOCK);
}

void strmap_fini(struct strmap *m)
{
	free(m->slots);
	*m = (struct strmap){ .seed = m->seed };
}

void strmap_add(struct strmap *m, struct strmap_entry *e, const char *key)
{
	if (m->count >= m->n_slots)
		strmap_grow(m);
	e->key = key;
	e->hash = strmap_hash(m, key);
	strmap_push(strmap_slot(m, e->hash), e);
	m->count++;
}

struct strmap_entry *strmap_find(const struct strmap *m, const char *key)
{
	uint64_t hash = strmap_hash(m, key);
	struct strmap_entry *e = *strmap_slot(m, hash);

	while (e && (e->hash != hash || strcmp(e->key, key) != 0))
		e = e->next;
	return e;
}

void strmap_remove(struct strmap *m, struct strmap_entry *e)
{
	if (!e->at)
		return;
	*e->at = e->next;
	if (e->next)
		e->next->at = e->at;
	e->at = NULL;
	m->count--;
}
