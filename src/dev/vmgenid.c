/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/vmgenid.h"

#include <errno.h>
#include "dev/acpi.h"
#include "util/checked.h"
#include "util/log.h"

static const struct field vmgenid_fields[] = {
	FIELD_RAW(struct vmgenid_state, id, 1),
	FIELD(struct vmgenid_state, gpa, 1),
};

const struct state_desc vmgenid_state_desc = {
	.name = "vmgenid", .version = 1, .size = sizeof(struct vmgenid_state),
	.n_fields = ARRAY_LEN(vmgenid_fields), .fields = vmgenid_fields,
};

void vmgenid_init(struct vmgenid *v, struct gmem *mem, struct source *source, struct acpi *acpi, uint64_t gpa)
{
	*v = (struct vmgenid){ .s.gpa = gpa, .mem = mem, .source = source, .acpi = acpi };
	source_random(source, v->s.id, sizeof(v->s.id));
}

int vmgenid_place(struct vmgenid *v)
{
	return gmem_write(v->mem, v->s.gpa, v->s.id, sizeof(v->s.id)) < 0 ? -EFAULT : 0;
}

void vmgenid_renew(struct vmgenid *v)
{
	source_random(v->source, v->s.id, sizeof(v->s.id));
	if (vmgenid_place(v) < 0)       /* the address came with a saved state */
		log_warn("the guest cannot be told that it is a copy: 0x%llx is not memory", (unsigned long long)v->s.gpa);
	else
		acpi_raise_gpe(v->acpi, ACPI_GPE_VMGENID);
}
