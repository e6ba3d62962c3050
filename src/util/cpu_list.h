/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_list.h - lists of processors as Linux writes them: "0-3,6" (cpuset(7), list format). Any thread. */
#ifndef UTIL_CPU_LIST_H
#define UTIL_CPU_LIST_H

#include <sched.h>

struct err;

/* TEXT as a set; processors are numbered from 0 to CPU_SETSIZE - 1, in any order. -EINVAL with the reason. */
int cpu_list_parse(cpu_set_t *out, const char *text, struct err *err);

#endif
