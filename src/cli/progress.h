/* SPDX-License-Identifier: Apache-2.0 */
/* progress.h - how far a long command is, on the terminal; and whether the user wants it to stop.
 *
 * A line on standard error, drawn anew at most ten times a second, and only when that is a terminal and
 * neither --quiet nor --json was given. Main thread. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct cli;
struct err;

struct progress {
	const char *what;       /* "converting"; borrowed; may be changed on the way */
	bool is_shown;
	uint64_t start_ns, drawn_ns, noted_ns;
	int fd;                 /* a file that says the same for programs; -1: none */
};

/* Begin, and from now on catch SIGINT, SIGTERM and SIGHUP: the first asks the command to stop, the second
 * ends the process as usual. */
void progress_start(struct progress *p, const struct cli *c, const char *what);
/* Tell it in the file PATH, too, twice a second: a line of "WHAT DONE TOTAL". */
int progress_note_in(struct progress *p, const char *path, struct err *err);
/* DONE of TOTAL bytes are. -EINTR: the user wants to stop. */
int progress_update(struct progress *p, uint64_t done, uint64_t total);
void progress_end(struct progress *p);          /* the line goes */
bool progress_is_interrupted(void);

#endif
