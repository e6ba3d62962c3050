/* SPDX-License-Identifier: Apache-2.0 */
/* vmgenid.h - the generation of a machine: a number in guest memory that changes when the machine is
 * continued from a state that others may be continued from, too.
 *
 * Microsoft, "Virtual Machine Generation ID" (2012). The ACPI tables tell where it lies; a
 * general-purpose event tells that it has changed, upon which a guest renews what must be unique: Linux
 * reseeds its random number generator. A reset, a pause and a migration do not change it. All calls hold
 * bus_lock. */
#ifndef DEV_VMGENID_H
#define DEV_VMGENID_H

#include <stdint.h>
#include "mem/gmem.h"
#include "util/fields.h"
#include "util/source.h"

struct acpi;
struct err;

enum { VMGENID_LEN = 16 };

struct vmgenid_state {
	uint8_t id[VMGENID_LEN];
	uint64_t gpa;                   /* in RAM that guests are told to leave alone */
};
extern const struct state_desc vmgenid_state_desc;

struct vmgenid {
	struct vmgenid_state s;
	struct gmem *mem;               /* borrowed, as the rest */
	struct source *source;
	struct acpi *acpi;
};

/* A new machine: a generation of its own, which vmgenid_place() will show at GPA. */
void vmgenid_init(struct vmgenid *v, struct gmem *mem, struct source *source, struct acpi *acpi, uint64_t gpa);
/* Write it to memory, before a guest starts. -EFAULT. */
int vmgenid_place(struct vmgenid *v);
/* Another generation begins: write it and raise the event. */
void vmgenid_renew(struct vmgenid *v);

#endif
