/* SPDX-License-Identifier: Apache-2.0 */
/* irq.h - an interrupt line and a message, as values.
 *
 * A device raises the line it was given and knows no controller. Edge or level is the
 * business of the receiver: a device sets the level it has. */
#ifndef BUS_IRQ_H
#define BUS_IRQ_H

#include <stddef.h>
#include <stdint.h>

struct irq_line {
	void (*set)(void *arg, int n, int level);       /* NULL: not connected */
	void *arg;
	int n;
};

static inline void irq_set(const struct irq_line *l, int level)
{
	if (l->set)
		l->set(l->arg, l->n, level);
}

/* Where message-signalled interrupts go: an address/data pair as the guest programmed it
 * (Intel SDM vol. 3, 11.11). Any thread. */
struct msi_sink {
	void (*send)(void *arg, uint64_t addr, uint32_t data);
	void *arg;
};

static inline void msi_send(const struct msi_sink *s, uint64_t addr, uint32_t data)
{
	if (s->send)
		s->send(s->arg, addr, data);
}

#endif
