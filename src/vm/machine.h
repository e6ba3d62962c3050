/* SPDX-License-Identifier: Apache-2.0 */
/* machine.h - the `pc` board: memory, processors, buses and devices, put together and run.
 *
 * All calls come from the loop thread. A machine ends by loop_stop() with status 0 (the guest
 * powered off, the user quit) or 1 (an error, which has been logged). */
#ifndef VM_MACHINE_H
#define VM_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "util/cleanup.h"

struct config;
struct err;
struct loop;
struct machine;

/* Edges in docs/design/threads.md. */
enum machine_state {
	MACHINE_STOPPED,        /* built, no processor runs */
	MACHINE_RUNNING,
	MACHINE_PAUSED,         /* somebody holds it: processors, devices and guest time stand still */
	MACHINE_RESETTING,      /* processors paused, devices on their way to power-on state */
	MACHINE_ENDED,          /* loop_stop() has been called */
	MACHINE_N_STATES
};
const char *machine_state_name(enum machine_state s);

/* What happened; docs/api/control.md has the words. DETAIL: a reason, or the device's name, or NULL. */
enum machine_event {
	MACHINE_EV_STARTED, MACHINE_EV_STOPPED, MACHINE_EV_PAUSED, MACHINE_EV_RESUMED, MACHINE_EV_RESET,
	MACHINE_EV_CRASHED, MACHINE_EV_PLUGGED, MACHINE_EV_UNPLUGGED, MACHINE_EV_BALLOON, MACHINE_EV_CPUS, MACHINE_EV_MEMORY,
	MACHINE_EV_TRAY_OPENED, MACHINE_EV_TRAY_CLOSED, MACHINE_EV_EJECTED, MACHINE_EV_INSERTED,
	MACHINE_N_EVENTS
};
typedef void (*machine_event_fn)(void *arg, enum machine_event event, const char *detail);

/* Build a machine from a valid configuration (borrowed for its life, in which plugging changes it): open all files, make
 * all devices, load the kernel, or take over what a saved machine was (cfg->saved). Nothing runs yet. */
int machine_new(struct machine **out, struct config *cfg, struct loop *loop, struct err *err);
void machine_free(struct machine *m);           /* stops it first; NULL is fine */
DEFINE_AUTO(struct machine *, machine_free)

/* Before the machine runs: bring disks back to what they were when it was saved (cfg->reverts_disks). */
int machine_revert_disks(struct machine *m, struct err *err);
void machine_start(struct machine *m);
/* No processor runs on return. */
void machine_stop(struct machine *m);
/* End now, as after a power failure, with status 0. REASON, which outlives the machine, goes to the observer. */
void machine_quit(struct machine *m, const char *reason);
/* The same, with status 1. */
void machine_give_up(struct machine *m, const char *reason);
/* As the event 'stopped' says; NULL: it has not ended. */
const char *machine_end_reason(const struct machine *m);
/* Another process has taken all over that this one had open. */
bool machine_is_handed_over(const struct machine *m);
enum machine_state machine_get_state(const struct machine *m);
/* FN hears of what happens. */
void machine_set_observer(struct machine *m, machine_event_fn fn, void *arg);
/* FN hears when a save, a migration, the coming of memory or a reset has ended and the machine goes on here. It queues what it
 * wants to do. */
void machine_set_ready_observer(struct machine *m, void (*fn)(void *arg), void *arg);

/* Who wants the machine to stand still. It runs when nobody does. */
enum machine_hold { MACHINE_HOLD_USER = 1, MACHINE_HOLD_SAVE = 2, MACHINE_HOLD_MIGRATION = 4 };
/* No processor runs on return, unless the machine is resetting: then it will pause instead of going
 * on. Requests in flight go on until machine_is_at_rest(). */
void machine_hold(struct machine *m, enum machine_hold why);
void machine_release(struct machine *m, enum machine_hold why);
/* Paused with nothing in flight: memory and state stand still. */
bool machine_is_at_rest(struct machine *m);

void machine_request_reset(void *machine);      /* any thread */
void machine_press_power_button(struct machine *m);

/* Before those go who have asked the guest agent something: they are told that it does not answer any more. */
void machine_end_agent(struct machine *m);
/* The terminal behind a virtio console has a new size. */
void machine_resize_terminal(struct machine *m, uint16_t cols, uint16_t rows);
/* Counters of all processors and devices, for people. */
void machine_print_stats(struct machine *m, FILE *to);
/* Which addresses belong to whom, at log level debug. */
void machine_log_map(struct machine *m);

#endif
