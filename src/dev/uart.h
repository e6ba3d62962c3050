/* SPDX-License-Identifier: Apache-2.0 */
/* uart.h - 16550A serial port with 16-byte receive FIFO.
 *
 * National PC16550D datasheet. Transmission takes no time: a byte written goes to the
 * backend at once and the transmitter is always empty. The line is always connected (CTS,
 * DSR, DCD on). Left out: baud rate timing other than the receive timeout, parity and
 * framing errors, DMA mode. All calls hold bus_lock. */
#ifndef DEV_UART_H
#define DEV_UART_H

#include <stddef.h>
#include <stdint.h>
#include "bus/bus.h"
#include "bus/irq.h"
#include "dev/dev_timer.h"
#include "util/fields.h"

enum { UART_FIFO_LEN = 16 };

struct uart_state {
	uint8_t ier, fcr, lcr, mcr, msr, scr, dll, dlm;
	uint8_t lsr_errors;             /* overrun, break: until LSR is read */
	uint8_t thre_pending;           /* THRE interrupt not yet acknowledged */
	uint8_t timeout_pending;        /* characters have waited for 4 character times */
	uint8_t rx_len, rx_pos;         /* bytes in rx, index of the oldest */
	uint8_t rx[UART_FIFO_LEN];
	uint8_t reserved[3];
};
extern const struct state_desc uart_state_desc;

struct uart_config {
	const char *name;               /* "com1" */
	struct irq_line irq;
	/* Bytes to the outside. Must not block. Called with bus_lock held, vCPU thread. */
	void (*write)(void *arg, const uint8_t *buf, size_t len);
	/* The guest has made room after the FIFO was full. NULL: nobody asks. Same context:
	 * hand over to the loop thread with loop_call(). */
	void (*rx_space)(void *arg);
	void *arg;
};

struct uart {
	struct uart_state s;
	struct bus_region region;       /* 8 ports */
	struct uart_config cfg;
	struct source *source;
	struct dev_timer timer;         /* receive timeout */
};

void uart_init(struct uart *u, struct bus *bus, struct loop *loop, struct source *source,
	       const struct uart_config *cfg);
void uart_fini(struct uart *u);
void uart_reset(struct uart *u);
void uart_restored(struct uart *u);             /* after s has been loaded */

/* Console input, on the loop thread, which has taken bus_lock. How many bytes fit, and give
 * them; bytes beyond that are an overrun, as on the wire. */
size_t uart_can_receive(const struct uart *u);
void uart_receive(struct uart *u, const uint8_t *buf, size_t len);
void uart_receive_break(struct uart *u);

#endif
