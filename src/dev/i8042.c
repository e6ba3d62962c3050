/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/i8042.h"

#include <stdbool.h>
#include "util/checked.h"

enum {
	STATUS_OUT_FULL = 1 << 0, STATUS_SYSTEM = 1 << 2, STATUS_COMMAND = 1 << 3, STATUS_UNLOCKED = 1 << 4,
	STATUS_AUX = 1 << 5,
	CMD_BYTE_SYSTEM = 1 << 2, CMD_BYTE_KBD_OFF = 1 << 4, CMD_BYTE_AUX_OFF = 1 << 5,
	OUTPUT_NOT_RESET = 1 << 0, OUTPUT_A20 = 1 << 1,

	CMD_READ_RAM = 0x20, CMD_WRITE_RAM = 0x60, CMD_RAM_MASK = 0x1f,
	CMD_AUX_OFF = 0xa7, CMD_AUX_ON = 0xa8, CMD_AUX_TEST = 0xa9, CMD_SELF_TEST = 0xaa,
	CMD_KBD_TEST = 0xab, CMD_KBD_OFF = 0xad, CMD_KBD_ON = 0xae, CMD_READ_INPUT = 0xc0,
	CMD_READ_OUTPUT = 0xd0, CMD_WRITE_OUTPUT = 0xd1, CMD_KBD_LOOP = 0xd2, CMD_AUX_LOOP = 0xd3,
	CMD_AUX_SEND = 0xd4, CMD_PULSE = 0xf0,

	SELF_TEST_OK = 0x55,
	PORT_TEST_OK = 0x00,
	PORT_TEST_CLOCK_LOW = 0x01,     /* what a port that is not there says */
};

static const struct field i8042_fields[] = {
	FIELD(struct i8042_state, command_byte, 1),
	FIELD(struct i8042_state, output_port, 1),
	FIELD(struct i8042_state, out, 1),
	FIELD(struct i8042_state, out_full, 1),
	FIELD(struct i8042_state, out_is_aux, 1),
	FIELD(struct i8042_state, expect, 1),
	FIELD(struct i8042_state, last_was_command, 1),
	FIELD_RAW(struct i8042_state, ram, 1),
};
const struct state_desc i8042_state_desc = {
	.name = "i8042", .version = 1, .size = sizeof(struct i8042_state),
	.n_fields = ARRAY_LEN(i8042_fields), .fields = i8042_fields,
};

static void i8042_reply(struct i8042 *k, uint8_t val)
{
	k->s.out = val;
	k->s.out_full = 1;
	k->s.out_is_aux = 0;
}

/* Output port bit 0 is the processor's reset line, active low; A20 is always open here. */
static void i8042_output_write(struct i8042 *k, uint8_t val)
{
	k->s.output_port = (uint8_t)(val | OUTPUT_A20 | OUTPUT_NOT_RESET);
	if (!(val & OUTPUT_NOT_RESET))
		k->reset_request(k->arg);
}

static void i8042_ram_write(struct i8042 *k, unsigned n, uint8_t val)
{
	if (n)
		k->s.ram[n] = val;
	else
		k->s.command_byte = val;
}

static void i8042_run(struct i8042 *k, uint8_t cmd)
{
	k->s.expect = 0;
	switch (cmd) {
	case CMD_AUX_OFF:
		k->s.command_byte |= CMD_BYTE_AUX_OFF;
		return;
	case CMD_AUX_ON:
		/* stays off: this is how drivers see that there is no second port */
		return;
	case CMD_AUX_TEST:
		i8042_reply(k, PORT_TEST_CLOCK_LOW);
		return;
	case CMD_SELF_TEST:
		k->s.command_byte |= CMD_BYTE_SYSTEM;
		i8042_reply(k, SELF_TEST_OK);
		return;
	case CMD_KBD_TEST:
		i8042_reply(k, PORT_TEST_OK);
		return;
	case CMD_KBD_OFF:
		k->s.command_byte |= CMD_BYTE_KBD_OFF;
		return;
	case CMD_KBD_ON:
		k->s.command_byte &= ~CMD_BYTE_KBD_OFF;
		return;
	case CMD_READ_INPUT:
		i8042_reply(k, 0x80);   /* keyboard not locked */
		return;
	case CMD_READ_OUTPUT:
		i8042_reply(k, k->s.output_port);
		return;
	case CMD_WRITE_OUTPUT:
	case CMD_KBD_LOOP:
	case CMD_AUX_LOOP:
	case CMD_AUX_SEND:
		k->s.expect = cmd;
		return;
	}
	if ((cmd & ~CMD_RAM_MASK) == CMD_READ_RAM)
		i8042_reply(k, cmd & CMD_RAM_MASK ? k->s.ram[cmd & CMD_RAM_MASK] : k->s.command_byte);
	else if ((cmd & ~CMD_RAM_MASK) == CMD_WRITE_RAM)
		k->s.expect = cmd;
	else if (cmd >= CMD_PULSE && !(cmd & OUTPUT_NOT_RESET))
		k->reset_request(k->arg);
}

static void i8042_parameter(struct i8042 *k, uint8_t val)
{
	uint8_t cmd = k->s.expect;

	k->s.expect = 0;
	if (cmd == CMD_WRITE_OUTPUT)
		i8042_output_write(k, val);
	else if (cmd == CMD_KBD_LOOP || cmd == CMD_AUX_LOOP)
		i8042_reply(k, val);    /* never marked as the second port's: there is none */
	else if ((cmd & ~CMD_RAM_MASK) == CMD_WRITE_RAM)
		i8042_ram_write(k, cmd & CMD_RAM_MASK, val);
	/* anything else went to a device that does not answer */
}

static uint64_t i8042_data_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	struct i8042 *k = dev;

	k->s.out_full = 0;
	return k->s.out;
}

static void i8042_data_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	struct i8042 *k = dev;

	k->s.last_was_command = 0;
	i8042_parameter(k, (uint8_t)val);
}

static uint64_t i8042_status_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	const struct i8042 *k = dev;

	return (k->s.out_full ? STATUS_OUT_FULL : 0) | (k->s.out_is_aux ? STATUS_AUX : 0) |
	       (k->s.command_byte & CMD_BYTE_SYSTEM ? STATUS_SYSTEM : 0) |
	       (k->s.last_was_command ? STATUS_COMMAND : 0) | STATUS_UNLOCKED;
}

static void i8042_command_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	struct i8042 *k = dev;

	k->s.last_was_command = 1;
	i8042_run(k, (uint8_t)val);
}

void i8042_init(struct i8042 *k, void (*reset_request)(void *arg), void *arg)
{
	*k = (struct i8042){
		.data = { .name = "i8042-data", .dev = k, .read = i8042_data_read, .write = i8042_data_write,
			  .flags = BUS_BYTES },
		.command = { .name = "i8042-command", .dev = k, .read = i8042_status_read,
			     .write = i8042_command_write, .flags = BUS_BYTES },
		.reset_request = reset_request, .arg = arg,
	};
	i8042_reset(k);
}

void i8042_reset(struct i8042 *k)
{
	k->s = (struct i8042_state){
		.command_byte = CMD_BYTE_SYSTEM | CMD_BYTE_KBD_OFF | CMD_BYTE_AUX_OFF,
		.output_port = OUTPUT_NOT_RESET | OUTPUT_A20,
	};
}
