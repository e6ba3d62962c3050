/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup.h - locals that release themselves.
 *
 *	AUTO(blk_close) struct blk *b = ...;     blk_close(b) runs when b leaves scope
 *	AUTO_FD int fd = open(...);              closed when it leaves scope and is >= 0
 *	*out = take_ptr(&b);                     hands ownership out: b becomes NULL
 *
 * A destructor that AUTO names must be made known once with DEFINE_AUTO(type, fn) next to
 * its declaration, and must accept NULL. */
#ifndef UTIL_CLEANUP_H
#define UTIL_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

#define AUTO(fn) __attribute__((cleanup(auto_##fn)))

#define DEFINE_AUTO(type, fn)                           \
	static inline void auto_##fn(type *p)           \
	{                                               \
		if (*p)                                 \
			fn(*p);                         \
	}

static inline void auto_free(void *p)
{
	free(*(void **)p);
}

static inline void auto_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define AUTO_FD __attribute__((cleanup(auto_fd)))

#define take_ptr(pp)                            \
	({                                      \
		__typeof__(*(pp)) taken_ = *(pp); \
		*(pp) = NULL;                   \
		taken_;                         \
	})

static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#endif
