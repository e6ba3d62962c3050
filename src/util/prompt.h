/* SPDX-License-Identifier: Apache-2.0 */
/* prompt.h - how soon a thread gets a processor when it has something to do and others want one, too. */
#ifndef UTIL_PROMPT_H
#define UTIL_PROMPT_H

#include <stdbool.h>

/* ON: the calling thread asks for short turns, so that its turn comes soon; else for those that are usual. Its share of the processors
 * stays what it is. For a thread that others wait for and that has little to do. Threads that it starts do as it does. Where the kernel
 * knows nothing of it (Linux before 6.12, or another policy than the usual), nothing happens. */
void thread_be_prompt(bool on);

#endif
