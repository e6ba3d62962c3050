/* SPDX-License-Identifier: Apache-2.0 */
/* profile.h - where the guest's time goes: samples of all processors, printed with the names of a System.map.
 * Loop thread. */
#ifndef VM_PROFILE_H
#define VM_PROFILE_H

#include <stdio.h>
#include "cpu/cpu.h"
#include "util/cleanup.h"

struct err;
struct loop;
struct profile;

/* Sample the N processors of VM (BORROWED) every millisecond from here on. SYMBOLS: a file of lines "address type
 * name" in hexadecimal, as System.map and /proc/kallsyms are; or NULL. -ENOTSUP: the engine cannot. */
int profile_new(struct profile **out, struct loop *loop, const struct cpu_ops *ops, struct cpu_vm *vm, unsigned n,
		const char *symbols, struct err *err);
void profile_free(struct profile *p);           /* NULL is fine */
DEFINE_AUTO(struct profile *, profile_free)

/* Shares of time by what was done, then the places seen most. Processors are stopped. */
void profile_print(struct profile *p, FILE *to);

#endif
