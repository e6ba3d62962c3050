/* SPDX-License-Identifier: Apache-2.0 */
/* virtio/console.h - the console device (VIRTIO 1.2, 5.3): port 0 is a console (hvc0 in
 * Linux), further ports are consoles too (hvc1 ...) or, with a name, byte streams
 * (/dev/virtio-ports/NAME). Loop thread. */
#ifndef VIRTIO_CONSOLE_H
#define VIRTIO_CONSOLE_H

#include <stddef.h>
#include "virtio/virtio.h"

enum { VIRTIO_CONSOLE_PORTS_MAX = 16, VIRTIO_CONSOLE_NAME_MAX = 63 };

/* The host's end of a port. Callbacks run on the loop thread; they may call the functions
 * below, except from inside write(). */
struct virtio_console_port {
	const char *name;       /* NULL: a console, as port 0 must be; copied, at most 63 bytes */
	void *arg;
	/* The guest wrote. Returns how much was taken; less than LEN stops the port until
	 * virtio_console_writable(). NULL: everything is thrown away. For consoles better take all
	 * and drop what nobody reads: Linux spins with interrupts off until its console's bytes
	 * are gone. */
	size_t (*write)(void *arg, const uint8_t *buf, size_t len);
	/* There is room for input again after virtio_console_input() took less than all. May be
	 * NULL. */
	void (*readable)(void *arg);
	/* A program in the guest opened or closed the port. May be NULL. */
	void (*opened)(void *arg, bool is_open);
};

struct virtio_console_config {
	const struct virtio_console_port *ports;        /* borrowed for the call */
	unsigned n_ports;                               /* at least 1 */
	bool has_no_first;                              /* port 0 is never announced: all are byte streams */
	uint16_t cols, rows;                            /* first size of port 0; 0: not known */
};

/* What the device saves beside virtio_state_desc. */
extern const struct state_desc virtio_console_state_desc;

int virtio_console_new(struct virtio_dev **out, const struct virtio_env *env,
		       const struct virtio_console_config *cfg, struct err *err);

/* Bytes for the guest: returns how many were taken (0 while the guest has given no buffers).
 * PORT must be one of those given. */
size_t virtio_console_input(struct virtio_dev *d, unsigned port, const uint8_t *buf, size_t len);
/* True when virtio_console_input() would take at least one byte now. */
bool virtio_console_can_receive(struct virtio_dev *d, unsigned port);
/* write() may be called again. */
void virtio_console_writable(struct virtio_dev *d, unsigned port);
/* The terminal behind a port that is a console has a new size; 0: not known. */
void virtio_console_resize(struct virtio_dev *d, unsigned port, uint16_t cols, uint16_t rows);
/* The host's end of a port was connected or went away (ports start connected). */
void virtio_console_set_open(struct virtio_dev *d, unsigned port, bool is_open);

#endif
