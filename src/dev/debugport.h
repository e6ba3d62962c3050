/* SPDX-License-Identifier: Apache-2.0 */
/* debugport.h - ports that programs write to without a driver.
 *
 * Port 0xe9: each byte goes to the log (reads give 0xe9, which says that the port is there, as
 * in Bochs). Port 0x80: POST code, and the I/O delay of old kernels; the last byte is kept.
 * All calls hold bus_lock. */
#ifndef DEV_DEBUGPORT_H
#define DEV_DEBUGPORT_H

#include <stddef.h>
#include <stdint.h>
#include "bus/bus.h"

struct debugport {
	struct bus_region debug, post;  /* 1 port each */
	uint8_t post_code;              /* last; not saved: nobody reads it back for meaning */
	void (*write)(void *arg, const uint8_t *buf, size_t len);       /* NULL: bytes are dropped */
	void *arg;
};

void debugport_init(struct debugport *d, void (*write)(void *arg, const uint8_t *buf, size_t len), void *arg);
void debugport_reset(struct debugport *d);

#endif
