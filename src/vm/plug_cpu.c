/* SPDX-License-Identifier: Apache-2.0 */
/* Processors that come and go. All that there can be exist from the start: those that are not there wait for a startup
 * message (SIPI) that does not reach them, and their threads sleep. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include "util/err.h"
#include "vm/machine_priv.h"
#include "vm/plug.h"

static void cpus_tell(void *arg)
{
	struct machine *m = arg;
	char text[12];

	snprintf(text, sizeof(text), "%u", machine_n_cpus(m));
	machine_tell(m, MACHINE_EV_CPUS, text);
}

void machine_cpus_changed_locked(void *arg)
{
	struct machine *m = arg;
	uint64_t now = m->hotplug.s.cpu_present, before = atomic_exchange(&m->cpus_present, now), gone = before & ~now;

	if (!m->vm || !gone)
		return;
	/* What the guest has let go of is as it was at power-on: it waits to be started. */
	for (; gone; gone &= gone - 1)
		m->ops->init(m->ops->vcpu(m->vm, (unsigned)__builtin_ctzll(gone)));
	(void)loop_call(m->loop, cpus_tell, m);
}

unsigned machine_n_cpus(const struct machine *m)
{
	return (unsigned)__builtin_popcountll(atomic_load(&m->cpus_present));
}

int machine_check_cpus(struct machine *m, uint64_t n, struct err *err)
{
	unsigned most = config_cpus(m->cfg);

	if (n < 1 || n > most)
		return err_set(err, -EINVAL, "%" PRIu64 " processors are not possible; this machine has 1 to %u (see max of --cpus)", n, most);
	int r = machine_check_unsaved(m, err);

	if (r < 0)
		return r;
	bus_lock(m->bus);
	bool hears = acpi_hears_gpe(&m->acpi, ACPI_GPE_CPU);
	bus_unlock(m->bus);
	return hears || n == machine_n_cpus(m) ? 0 :
		err_set(err, -ENOTSUP, "the guest does not listen for processors that come and go: the machine was started without max of "
			"--cpus, or the guest has not enabled ACPI hot-plug (yet)");
}

void machine_set_cpus(struct machine *m, unsigned n)
{
	unsigned there;

	bus_lock(m->bus);
	m->hotplug.s.cpu_asked = m->hotplug.s.cpu_down = 0;     /* what was wanted before is not any more */
	for (unsigned i = 0; i < config_cpus(m->cfg) && machine_n_cpus(m) < n; i++) {
		if (m->hotplug.s.cpu_present >> i & 1)
			continue;
		hotplug_cpu_up(&m->hotplug, i);
		atomic_store(&m->cpus_present, m->hotplug.s.cpu_present);
	}
	there = machine_n_cpus(m);
	for (unsigned i = config_cpus(m->cfg); i-- > 1 && there > n;) {
		if (!(m->hotplug.s.cpu_present >> i & 1))
			continue;
		hotplug_cpu_down(&m->hotplug, i);
		there--;
	}
	bus_unlock(m->bus);
}
