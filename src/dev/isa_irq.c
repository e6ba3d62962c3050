/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/isa_irq.h"

#include "dev/ioapic.h"
#include "dev/pic.h"

static void isa_irq_set(void *arg, int n, int level)
{
	struct isa_irq *i = arg;

	if (n < 16)
		pic_set_irq(i->pic, n, level);
	ioapic_set_irq(i->ioapic, n == 0 ? 2 : n, level);
}

struct irq_line isa_irq_line(struct isa_irq *i, int n)
{
	return (struct irq_line){ .set = isa_irq_set, .arg = i, .n = n };
}
