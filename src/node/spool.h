/* SPDX-License-Identifier: Apache-2.0 */
/* spool.h - text that is appended to a file by another thread, so that nobody waits for a disk that is slow, full or gone.
 *
 * What a disk does not take in time is lost, and the file says how much. Loop thread. */
#ifndef NODE_SPOOL_H
#define NODE_SPOOL_H

#include <stddef.h>

struct spool;
struct works;

enum {
	SPOOL_WAITING_MAX = 256 << 10,  /* bytes that wait for the disk */
	SPOOL_FILE_MAX = 4 << 20,       /* then the file moves aside to PATH.1 */
};

/* For the file PATH (copied), made when the first byte comes, by the one thread of WRITER (borrowed; it outlives what is written,
 * as works_drain() says). NULL: out of memory. */
struct spool *spool_new(struct works *writer, const char *path);
/* What waits is written still. NULL is fine. */
void spool_free(struct spool *s);
void spool_put(struct spool *s, const char *data, size_t len);
/* Nothing comes for now: the file is closed when all is written. */
void spool_rest(struct spool *s);

#endif
