/* SPDX-License-Identifier: Apache-2.0 */
/* janitor.h - a process that removes our sockets and control group from the file system when this one ends, and writes down why it did.
 *
 * In its jail a machine can remove nothing, and killed it never could. So a process of the same user is started
 * before anything else, which holds nothing but the end of a socket pair and the file for the reason, and waits for the pair
 * to close. All it ever takes from us are bytes, each of which is one of a few words. Main thread. */
#ifndef VM_JANITOR_H
#define VM_JANITOR_H

#include <sys/types.h>

struct config;
struct err;
struct group;

struct janitor {
	int fd;                 /* -1: none is needed */
	pid_t pid;              /* 0: not ours */
};

/* Before there are threads. None is started when CFG, which may be NULL, makes no socket and names no file for its end, which is emptied
 * now, and there is no group G (NULL, or none). It is not to be in the group itself. What is left in there two seconds after our end is killed. */
int janitor_start(struct janitor *j, const struct config *cfg, const struct group *g, struct err *err);
/* All sockets of the configuration are there, and ours. */
void janitor_note(struct janitor *j);
/* The machine has ended, for REASON: one of those of the event 'stopped'. Killed, it says nothing, and the file stays empty. */
void janitor_note_end(struct janitor *j, const char *reason);
/* Another process's, which has one already: FD is duplicated. */
int janitor_adopt(struct janitor *j, int fd);
/* Another process has adopted it: nothing is removed by our end. */
void janitor_forget(struct janitor *j);
/* They are removed on return (unless the janitor has been killed). Not started is fine. */
void janitor_finish(struct janitor *j);

#endif
