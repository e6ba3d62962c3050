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

int jail_enter(struct err *err);
int jail_filter(struct err *err);
int jail_filter_vcpu(struct err *err);

#endif
