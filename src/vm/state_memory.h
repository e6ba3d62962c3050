/* SPDX-License-Identifier: Apache-2.0 */
/* state_memory.h - guest memory on its way into the file of a saved machine; for state_write.c.
 *
 * First all of memory is looked through for what is not zero: that makes the rows of the file's table. Then a few threads
 * take one run of rows after the other, pack them, and write them past the host's page cache where the file system lets
 * them: several large writes are under way at any time, straight from guest memory when it is neither packed nor encrypted. */
#ifndef VM_STATE_MEMORY_H
#define VM_STATE_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include "vm/state_file.h"

/* Write what is not zero of MEM to FD from STATE_MEMORY_OFF on. TABLE (empty) gets the rows, *END the offset behind
 * guest memory, a multiple of 4 KiB, where the file ends then; its flags are what they were. SEAL (or NULL) encrypts it. Nobody
 * may write to MEM meanwhile. -ECANCELED; -errno. */
int state_memory_write(int fd, const struct gmem *mem, enum state_packing packing, const struct state_seal *seal,
		       struct state_sections *table, struct state_progress *progress, uint64_t *end, struct err *err);

/* Write all of BUF at AT. */
int state_write_all(int fd, const void *buf, size_t len, uint64_t at, struct err *err);

#endif
