/* SPDX-License-Identifier: Apache-2.0 */
/* machine.h - the `pc` board: memory, processors, buses and devices, put together and run.
 *
 * All calls come from the loop thread. A machine ends by loop_stop() with status 0 (the guest
 * powered off, the user quit) or 1 (an error, which has been logged). */
#ifndef VM_MACHINE_H
#define VM_MACHINE_H

#include <stdint.h>
#include <stdio.h>
#include "util/cleanup.h"

struct config;
struct err;
struct loop;
struct machine;

/* Build a machine from a valid configuration (borrowed for its life): open all files, make
 * all devices, load the kernel. Nothing runs yet. */
int machine_new(struct machine **out, const struct config *cfg, struct loop *loop, struct err *err);
void machine_free(struct machine *m);           /* stops it first; NULL is fine */
DEFINE_AUTO(struct machine *, machine_free)

void machine_start(struct machine *m);
/* No processor runs on return. */
void machine_stop(struct machine *m);

/* The terminal behind a virtio console has a new size. */
void machine_resize_terminal(struct machine *m, uint16_t cols, uint16_t rows);
/* Counters of all processors and devices, for people. */
void machine_print_stats(struct machine *m, FILE *to);
/* Which addresses belong to whom, at log level debug. */
void machine_log_map(struct machine *m);

#endif
