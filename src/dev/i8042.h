/* SPDX-License-Identifier: Apache-2.0 */
/* i8042.h - keyboard controller without keyboard or mouse.
 *
 * IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device Controller".
 * Answers the self-test and the port tests so that drivers find a sane controller with
 * nothing plugged in and give up at once; keeps the A20 line open; pulses the reset line.
 * No interrupts. All calls hold bus_lock. */
#ifndef DEV_I8042_H
#define DEV_I8042_H

#include <stdint.h>
#include "bus/bus.h"
#include "util/fields.h"

struct i8042_state {
	uint8_t command_byte;
	uint8_t output_port;
	uint8_t out, out_full, out_is_aux;      /* output buffer */
	uint8_t expect;                         /* command whose parameter comes next; 0: none */
	uint8_t last_was_command;               /* status bit 3 */
	uint8_t reserved;
	uint8_t ram[32];
};
extern const struct state_desc i8042_state_desc;

struct i8042 {
	struct i8042_state s;
	struct bus_region data, command;        /* 1 port each */
	void (*reset_request)(void *arg);       /* the guest pulses the processor's reset line */
	void *arg;
};

void i8042_init(struct i8042 *k, void (*reset_request)(void *arg), void *arg);
void i8042_reset(struct i8042 *k);

#endif
