/* SPDX-License-Identifier: Apache-2.0 */
/* program.h - run another program to its end, which must be soon. Worker threads: it waits. */
#ifndef NODE_PROGRAM_H
#define NODE_PROGRAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct err;

/* Run ARGV (ARGV[0]: a path) with IN (NULL: nothing) on its standard input. OUT (NULL: not wanted) gets what it has written,
 * from malloc(), ended by a NUL that LEN does not count. -EIO: it has failed; the sentence has its first line of complaint.
 * -ETIME: it took more than half a minute, and was killed. */
int program_run(char *const argv[], const char *in, char **out, size_t *len, struct err *err);
/* The same with patience for SECONDS, and as long as STOP is false: -ECANCELED. */
int program_run_until(char *const argv[], unsigned seconds, const atomic_bool *stop, char **out, size_t *len, struct err *err);
/* Where NAME of PACKAGE is installed, from malloc(): in the system's directories, also those that only root's PATH has.
 * -ENOENT: it is not. */
int program_find(char **out, const char *name, const char *package, struct err *err);

#endif
