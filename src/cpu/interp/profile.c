/* SPDX-License-Identifier: Apache-2.0 */
/* profile.c - where a processor's time goes, by samples. A thread of the machine's asks at regular times
 * (cpu_ops.sample): what the processor does at that moment is counted at once, by a byte that it keeps; where the
 * guest is, the processor tells at the next boundary at which it looks up (ICPU_REQ_SAMPLE). The
 * translator looks up at the end of a loop and where code goes to another page, so its places are those. */
#include "cpu/interp/core.h"

#include <stdlib.h>

enum { PLACE_BITS = 14, PROBES = 16 };

struct icpu_profile {
	_Atomic uint64_t phase[CPU_N_PHASES];
	uint64_t n_lost;
	struct cpu_profile_place place[1 << PLACE_BITS];        /* a hash table; n is 0: free */
};

struct icpu_profile *icpu_profile_new(void) { return calloc(1, sizeof(struct icpu_profile)); }
void icpu_profile_free(struct icpu_profile *p) { free(p); }

void icpu_sample(struct icpu *c)
{
	if (!c->profile)
		return;
	if (atomic_load(&c->is_parked)) {
		atomic_fetch_add_explicit(&c->profile->phase[CPU_PHASE_HALTED], 1, memory_order_relaxed);
		return;
	}
	atomic_fetch_add_explicit(&c->profile->phase[atomic_load_explicit(&c->phase, memory_order_relaxed)], 1, memory_order_relaxed);
	icpu_request(c, ICPU_REQ_SAMPLE);
}

void icpu_note_place(struct icpu *c)
{
	struct icpu_profile *p = c->profile;
	uint64_t rip = icpu_linear_rip(c, c->s.rip), hash = (rip << 2 | c->cpl) * 0x9e3779b97f4a7c15ull >> (64 - PLACE_BITS);

	for (unsigned i = 0; i < PROBES; i++) {
		struct cpu_profile_place *at = &p->place[(hash + i) % (1 << PLACE_BITS)];

		if (at->n && (at->rip != rip || at->cpl != c->cpl))
			continue;
		at->rip = rip;
		at->cpl = c->cpl;
		at->n++;
		return;
	}
	p->n_lost++;
}

void icpu_profile(struct icpu *c, struct cpu_profile *out)
{
	*out = (struct cpu_profile){ .n_places = 0 };
	if (!c->profile)
		return;
	for (unsigned i = 0; i < CPU_N_PHASES; i++)
		out->phase[i] = atomic_load(&c->profile->phase[i]);
	out->n_lost = c->profile->n_lost;
	out->place = c->profile->place;
	out->n_places = 1 << PLACE_BITS;
}
