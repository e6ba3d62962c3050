/* SPDX-License-Identifier: Apache-2.0 */
/* jail.h - what is left of this process's rights once a guest runs in it.
 *
 * Rights go in two steps, each when nothing needs them any more (docs/design/trust.md lists what stays and why):
 *
 *	jail_enter()         everything is open, no processor's thread exists: no new privileges, Landlock
 *	                     without any rule; as root: namespaces of its own and the user 'nobody'
 *	jail_filter()        just before the machine starts: the system-call filter, on all threads
 *	jail_filter_vcpu()   on each processor's thread before its first instruction: a narrower one
 *
 * Nothing is given back. What is refused fails with EPERM, so that a guest's mischief ends no machine. */
#ifndef VM_JAIL_H
#define VM_JAIL_H

struct err;

enum { JAIL_REMOVABLE_MAX = 64 };

int jail_enter(struct err *err);
int jail_filter(struct err *err);
int jail_filter_vcpu(struct err *err);

/* For a process that only looks at files and empty folders, removes them and ends: nothing else from now on, not even to root. It may
 * read and close what is open, write to its standard output and error output, and wait. */
struct jail_removable {
	const char *const *file, *const *folder;
	unsigned n_files, n_folders;
};
int jail_enter_remover(const struct jail_removable *what, struct err *err);
/* The last step of that: its system calls. */
int jail_filter_remover(struct err *err);

/* For a process that starts passt, which makes a jail of its own: what neither of them needs goes, as far as it can; what cannot is told. */
void jail_enter_keeper(void);
/* The last step of that. */
int jail_filter_keeper(struct err *err);

/* For a process that waits for a child and sends it signals. It may close what is open and write to FD; nothing else from now on. */
int jail_enter_front(int fd, struct err *err);
/* The last step of that. */
int jail_filter_front(int fd, struct err *err);

#endif
