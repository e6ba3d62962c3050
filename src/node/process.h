/* SPDX-License-Identifier: Apache-2.0 */
/* process.h - processes that outlive the daemon, and how it finds them again.
 *
 * A process gets an open, locked file as its standard input, in which its number stands. The lock lasts as long as
 * somebody has that open file, so whether the process is there can be asked at any time, by whoever comes
 * after a crash too: no number that was used again is ever taken for it, and there is no moment at which
 * a process runs that nobody would find.
 *
 * A process may end when it has started a successor, a child of its own parent that holds the lock and whose number it has written
 * over its own, and below it those of others that run beside it (viv-vmm does, for a machine in a PID namespace: vm/pidns.h): that one is the process from then on. Loop thread. */
#ifndef NODE_PROCESS_H
#define NODE_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "util/loop.h"

struct err;

enum { PROCESS_BESIDE = 2 };

/* Embedded in its owner's struct. */
struct process {
	void (*ended)(struct process *p);       /* it is no longer there; STATUS says more */
	pid_t pid;                      /* 0: there is none */
	int status;                     /* as of waitpid(); -1: unknown, for it was not our child */
	bool is_child;
	pid_t beside[PROCESS_BESIDE];   /* others that run for it, and are not below it; 0: none. See process_beside() */
	bool has_file, is_to_die;       /* private: FILE is one; whoever follows it is killed, too */
	int file;                       /* private: that with the lock, opened anew */
	struct loop_fd watch;           /* its pidfd */
};

struct process_spec {
	const char *lock_path;          /* made when it is not there */
	const char *log_path;           /* standard output and error, appended; NULL: nowhere */
	char *const *argv;              /* ARGV[0] is a path */
	const int *groups;              /* descriptors of files of control groups (cgroup.h), into which it goes first */
	unsigned n_groups;
};

/* Start a process in a session of its own. -EBUSY: one with that lock is there already, or is just being started. */
int process_start(struct process *p, struct loop *l, const struct process_spec *s, struct err *err);
/* Does somebody hold the lock? */
bool process_is_there(const char *lock_path);
/* Watch the process that holds the lock. 1: there is one; 0: there is none; -EAGAIN: there is one, which has not
 * written its number yet: ask again soon. */
int process_find(struct process *p, struct loop *l, const char *lock_path, struct err *err);
/* The same of a program that closes its standard input, and the lock with it. It is known by the number in the file and by WORD
 * of its command line, which names something that only this daemon's processes can mean. */
int process_find_word(struct process *p, struct loop *l, const char *lock_path, const char *word, struct err *err);
/* The number of the I-th that runs beside it, if it does now; else 0. */
pid_t process_beside(const struct process *p, unsigned i);
/* false: it has a successor, of which process_ready() has not heard yet. */
bool process_is_settled(const struct process *p);
/* SIGKILL goes on to its successor. */
void process_kill(struct process *p, int signo);
/* It and what it has started. */
void process_kill_group(struct process *p, int signo);
/* It goes on, unwatched. Not started: nothing happens. */
void process_forget(struct process *p);
/* The last line in DIR/FILE, where it has written what is wrong, without the name of a program of ours; "" when there is none. */
void process_last_words(const char *dir, const char *file, char *buf, size_t cap);

#endif
