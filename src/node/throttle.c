/* SPDX-License-Identifier: Apache-2.0 */
#include "node/throttle.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

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

/* Is A rather to be forgotten than B? What counts for nothing any more, then who has failed least: many names that fail once
 * do not make it forget the one that fails often. */
static bool is_less(const struct throttle_entry *a, const struct throttle_entry *b, uint64_t now_s)
{
	unsigned of_a = a->who && now_s - a->last_s < THROTTLE_FORGET_S ? a->failures : 0;
	unsigned of_b = b->who && now_s - b->last_s < THROTTLE_FORGET_S ? b->failures : 0;

	return !a->who || of_a < of_b || (of_a == of_b && a->last_s < b->last_s);
}

void throttle_network(char *out, size_t cap, const char *address)
{
	static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };
	struct in6_addr six;

	if (inet_pton(AF_INET6, address, &six) != 1 || !memcmp(&six, mapped, sizeof(mapped))) {
		snprintf(out, cap, "%s", address);
		return;
	}
	memset(six.s6_addr + 8, 0, 8);
	inet_ntop(AF_INET6, &six, out, (socklen_t)cap);
}

void throttle_fail(struct throttle *t, const char *who, uint64_t now_s)
{
	struct throttle_entry *e = (struct throttle_entry *)find(t, who);

	if (!e) {
		e = &t->entry[0];
		for (unsigned i = 1; i < THROTTLE_ENTRIES && e->who; i++)
			if (is_less(&t->entry[i], e, now_s))
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
