/* SPDX-License-Identifier: Apache-2.0 */
/* strmap.h - finding objects by a text: a hash table whose entries are embedded in what they stand for.
 *
 * It owns nothing but its table, which grows with what is in it. Who chooses the texts cannot choose where they
 * fall: that depends on a random number of each map. One thread. */
#ifndef UTIL_STRMAP_H
#define UTIL_STRMAP_H

#include <stddef.h>
#include <stdint.h>

struct strmap_entry {
	const char *key;                /* borrowed; in place and unchanged while it is in a map */
	uint64_t hash;                  /* private from here */
	struct strmap_entry *next, **at;
};

struct strmap {
	struct strmap_entry *few;       /* all of them while there is no table */
	struct strmap_entry **slots;
	size_t n_slots, count;          /* N_SLOTS: a power of two, or 0 without a table */
	uint64_t seed;
};

void strmap_init(struct strmap *m);
void strmap_fini(struct strmap *m);     /* entries stay as they are, and are in no map any more */

/* Put E in under KEY, which nobody has. Without memory for a larger table finding becomes slower, nothing else. */
void strmap_add(struct strmap *m, struct strmap_entry *e, const char *key);
struct strmap_entry *strmap_find(const struct strmap *m, const char *key);      /* NULL: there is none */
void strmap_remove(struct strmap *m, struct strmap_entry *e);   /* not in it (zeroed): nothing happens */

#endif
