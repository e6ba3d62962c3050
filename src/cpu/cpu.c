/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/cpu.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "cpu/bt/bt.h"
#include "cpu/bt/lockstep.h"
#include "cpu/interp/interp.h"
#include "cpu/kvm/kvm.h"
#include "util/err.h"

const struct cpu_ops *const cpu_engines[] = { &cpu_kvm, &cpu_bt, &cpu_interp, &cpu_lockstep, NULL };

const char *cpu_code_exit_name(enum cpu_code_exit why)
{
	static const char *const names[CPU_N_CODE_EXITS] = {
		[CPU_CODE_EXIT_LINK] = "link", [CPU_CODE_EXIT_INDIRECT] = "indirect", [CPU_CODE_EXIT_UNMAPPED] = "unmapped",
		[CPU_CODE_EXIT_END] = "end", [CPU_CODE_EXIT_AWAY] = "away", [CPU_CODE_EXIT_CHANGED] = "changed",
		[CPU_CODE_EXIT_REQUEST] = "request", [CPU_CODE_EXIT_OTHER] = "other",
	};

	return names[why];
}

static int engine_by_name(const struct cpu_ops **out, const char *name, char *why, unsigned why_len, struct err *err)
{
	for (const struct cpu_ops *const *e = cpu_engines; *e; e++) {
		if (strcmp((*e)->name, name))
			continue;
		int r = (*e)->probe(true, err);

		if (r < 0)
			return err_wrap(err, r, "CPU engine '%s'", name);
		snprintf(why, why_len, "engine '%s' was asked for", name);
		*out = *e;
		return 0;
	}
	return err_set(err, -EINVAL, "there is no CPU engine '%s'; see --help for the list", name);
}

int cpu_engine_pick(const struct cpu_ops **out, const char *name, char *why, unsigned why_len, struct err *err)
{
	struct err last = ERR_INIT;

	if (strcmp(name, "auto"))
		return engine_by_name(out, name, why, why_len, err);
	for (const struct cpu_ops *const *e = cpu_engines; *e; e++) {
		struct err here = ERR_INIT;

		if ((*e)->probe(false, &here) < 0) {
			last = here;
			continue;
		}
		if (last.code)
			snprintf(why, why_len, "engine '%s': %.400s", (*e)->name, last.msg);
		else
			snprintf(why, why_len, "engine '%s' is the fastest that this host runs", (*e)->name);
		*out = *e;
		return 0;
	}
	return err_set(err, last.code ? last.code : -ENODEV, "no CPU engine runs on this host: %s", last.msg);
}
