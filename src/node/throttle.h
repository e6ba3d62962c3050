/* SPDX-License-Identifier: Apache-2.0 */
/* throttle.h - who fails too often waits: passwords are not guessed by trying. In bounded memory: when it is full, who
 * has failed least and been quiet for longest is forgotten. Loop thread. */
#ifndef NODE_THROTTLE_H
#define NODE_THROTTLE_H

#include <stddef.h>
#include <stdint.h>

enum {
	THROTTLE_ENTRIES = 1024,
	THROTTLE_FORGET_S = 3600,       /* without a failure */
	THROTTLE_WAIT_MAX_S = 900,
};

struct throttle_entry {
	uint64_t who;                   /* a hash of the name; 0: free */
	uint64_t last_s;                /* the last failure */
	unsigned failures;
};

/* All zero at first. */
struct throttle {
	struct throttle_entry entry[THROTTLE_ENTRIES];
};

/* How many seconds WHO has to wait at NOW_S (of any clock that only goes forward); 0: it may try. FREE failures cost
 * nothing; the next one a second, each further one twice as much as the one before. */
unsigned throttle_wait(const struct throttle *t, const char *who, unsigned free_failures, uint64_t now_s);
void throttle_fail(struct throttle *t, const char *who, uint64_t now_s);
/* As whom ADDRESS, numeric, fails: of IPv6 its network of 64 bits, in which one customer has as many addresses as it likes.
 * OUT has CAP bytes, 46 at least. */
void throttle_network(char *out, size_t cap, const char *address);
/* It has shown that it knows the password. */
void throttle_forget(struct throttle *t, const char *who);

#endif
