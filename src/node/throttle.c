/* SPDX-License-Identifier: Apache-2.0 */
#include "node/throttle.h"

#include <stddef.h>

/* FNV-1a. Who finds another name with the same hash waits for its failures, too, and no more than that. */
static uint64_t hash(const char *who)
{
	uint64_t h = 0xcbf29ce484222325;

	for (; *who; who++)
		h = (h ^ (uint8_t)*who) * 0x100000001b3;
	return h ? h : 1;
}

static const struct throttle_entry *find(const struct throttle *t, const char *who)
{
	uint64_t h = hash(who);

	for (unsigned i = 0; i < THROTTLE_ENTRIES; i++)
		if (t->entry[i].who == h)
			return &t->entry[i];
	return NULL;
}

unsigned throttle_wait(const struct throttle *t, const char *who, unsigned free_failures, uint64_t now_s)
{
	const struct throttle_entry *e = find(t, who);
	uint64_t wait;

	if (!e || e->failures <= free_failures || now_s - e->last_s >= THROTTLE_FORGET_S)
		return 0;
	unsigned over = e->failures - free_failures - 1;

	wait = over < 10 ? 1u << over : THROTTLE_WAIT_MAX_S;
	if (wait > THROTTLE_WAIT_MAX_S)
		wait = THROTTLE_WAIT_MAX_S;
	return now_s - e->last_s >= wait ? 0 : (unsigned)(wait - (now_s - e->last_s));
}

void throttle_fail(struct throttle *t, const char *who, uint64_t now_s)
{
	struct throttle_entry *e = (struct throttle_entry *)find(t, who);

	if (!e) {
		e = &t->entry[0];
		for (unsigned i = 1; i < THROTTLE_ENTRIES && e->who; i++)
			if (!t->entry[i].who || t->entry[i].last_s < e->last_s)
				e = &t->entry[i];
		*e = (struct throttle_entry){ .who = hash(who) };
	}
	if (e->failures && now_s - e->last_s >= THROTTLE_FORGET_S)
		e->failures = 0;
	e->failures++;
	e->last_s = now_s;
}

void throttle_forget(struct throttle *t, const char *who)
{
	struct throttle_entry *e = (struct throttle_entry *)find(t, who);

	if (e)
		*e = (struct throttle_entry){ .who = 0 };
}
