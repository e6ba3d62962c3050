/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/profile.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "util/checked.h"
#include "util/err.h"
#include "util/loop.h"

enum { PERIOD_NS = 1000 * 1000, TOP = 40, SYMBOLS_MAX = 1 << 20, NAME_MAX_LEN = 56 };

struct symbol {
	uint64_t at;
	char name[NAME_MAX_LEN];
};

struct profile {
	struct loop_timer timer;
	const struct cpu_ops *ops;
	struct cpu_vm *vm;
	unsigned n;
	struct symbol *symbol;          /* ascending */
	size_t n_symbols;
};

static void profile_tick(struct loop_timer *t)
{
	struct profile *p = container_of(t, struct profile, timer);

	for (unsigned i = 0; i < p->n; i++)
		p->ops->sample(p->ops->vcpu(p->vm, i));
	loop_timer_set(t, loop_now_ns() + PERIOD_NS);
}

/* --- symbols ----------------------------------------------------------------------------------- */

static int symbol_order(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;

	return (x->at > y->at) - (x->at < y->at);
}

static int symbol_add(struct profile *p, const char *line)
{
	struct symbol s;
	char type;

	if (sscanf(line, "%" SCNx64 " %c %55s", &s.at, &type, s.name) != 3 || !strchr("tTwW", type) ||
	    p->n_symbols == SYMBOLS_MAX)
		return 0;
	if ((p->n_symbols & (p->n_symbols - 1)) == 0) {
		struct symbol *more = realloc(p->symbol, (p->n_symbols ? 2 * p->n_symbols : 1) * sizeof(s));

		if (!more)
			return -ENOMEM;
		p->symbol = more;
	}
	p->symbol[p->n_symbols++] = s;
	return 0;
}

static int symbols_read(struct profile *p, const char *path, struct err *err)
{
	FILE *f = fopen(path, "re");
	char line[512];
	int r = 0;

	if (!f)
		return err_set(err, -errno, "cannot open the symbols '%s': %s", path, strerror(errno));
	while (!r && fgets(line, sizeof(line), f))
		r = symbol_add(p, line);
	fclose(f);
	if (r < 0)
		return err_set(err, r, "out of memory for the symbols of '%s'", path);
	if (!p->n_symbols)
		return err_set(err, -EINVAL, "'%s' has no line of the form 'address type name' with code", path);
	qsort(p->symbol, p->n_symbols, sizeof(p->symbol[0]), symbol_order);
	return 0;
}

/* The last symbol at or before AT; "" when there is none. */
static const char *symbol_of(const struct profile *p, uint64_t at, uint64_t *off)
{
	size_t lo = 0, hi = p->n_symbols;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (p->symbol[mid].at <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	*off = lo ? at - p->symbol[lo - 1].at : 0;
	return lo ? p->symbol[lo - 1].name : "";
}

/* --- life cycle -------------------------------------------------------------------------------------- */

int profile_new(struct profile **out, struct loop *loop, const struct cpu_ops *ops, struct cpu_vm *vm, unsigned n,
		const char *symbols, struct err *err)
{
	if (!ops->sample)
		return err_set(err, -ENOTSUP, "the engine '%s' cannot be profiled; perf(1) on the host can", ops->name);
	AUTO(profile_free) struct profile *p = calloc(1, sizeof(*p));

	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	p->ops = ops;
	p->vm = vm;
	p->n = n;
	loop_timer_init(loop, &p->timer, profile_tick);
	int r = symbols ? symbols_read(p, symbols, err) : 0;

	if (r < 0)
		return r;
	loop_timer_set(&p->timer, loop_now_ns() + PERIOD_NS);
	*out = take_ptr(&p);
	return 0;
}

void profile_free(struct profile *p)
{
	if (!p)
		return;
	loop_timer_cancel(&p->timer);
	free(p->symbol);
	free(p);
}

/* --- printing ---------------------------------------------------------------------------------------- */

struct place {
	uint64_t rip, n;
	uint8_t cpl;
};

static int place_order(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	return x->n == y->n ? (x->rip > y->rip) - (x->rip < y->rip) : x->n < y->n ? 1 : -1;
}

static int place_address_order(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	return x->rip == y->rip ? (x->cpl > y->cpl) - (x->cpl < y->cpl) : x->rip < y->rip ? -1 : 1;
}

/* Makes one of what several processors have seen of a place; how many are left. */
static size_t places_join(struct place *place, size_t n)
{
	size_t kept = 0;

	qsort(place, n, sizeof(*place), place_address_order);
	for (size_t i = 0; i < n; i++)
		if (kept && !place_address_order(&place[kept - 1], &place[i]))
			place[kept - 1].n += place[i].n;
		else
			place[kept++] = place[i];
	return kept;
}

/* Of all processors, the most frequent first. */
static size_t places_of(struct profile *p, struct place **out, uint64_t phase[CPU_N_PHASES], uint64_t *lost)
{
	struct place *place = NULL;
	size_t n = 0;

	for (unsigned i = 0; i < p->n; i++) {
		struct cpu_profile one;

		p->ops->profile(p->ops->vcpu(p->vm, i), &one);
		*lost += one.n_lost;
		for (unsigned k = 0; k < CPU_N_PHASES; k++)
			phase[k] += one.phase[k];
		struct place *more = realloc(place, (n + one.n_places + 1) * sizeof(*more));

		if (!more)
			break;
		place = more;
		for (unsigned k = 0; k < one.n_places; k++)
			if (one.place[k].n)
				place[n++] = (struct place){ one.place[k].rip, one.place[k].n, one.place[k].cpl };
	}
	if (n) {
		n = places_join(place, n);
		qsort(place, n, sizeof(*place), place_order);
	}
	*out = place;
	return n;
}

static double percent(uint64_t part, uint64_t all) { return all ? 100.0 * (double)part / (double)all : 0; }

void profile_print(struct profile *p, FILE *to)
{
	static const char *const names[CPU_N_PHASES] = { "guest code", "call-outs", "translating", "devices", "halted" };
	uint64_t phase[CPU_N_PHASES] = { 0 }, lost = 0, all = 0, seen = 0, user = 0;
	struct place *place;
	size_t n = places_of(p, &place, phase, &lost);

	for (unsigned k = 0; k < CPU_N_PHASES; k++)
		all += phase[k];
	fprintf(to, "profile: %" PRIu64 " samples:", all);
	for (unsigned k = 0; k < CPU_N_PHASES; k++)
		fprintf(to, "%s %s %.1f %%", k ? "," : "", names[k], percent(phase[k], all));
	for (size_t i = 0; i < n; i++) {
		seen += place[i].n;
		user += place[i].cpl == 3 ? place[i].n : 0;
	}
	fprintf(to, "\nprofile: %" PRIu64 " places noted (%" PRIu64 " lost), %.1f %% of them in user mode\n", seen, lost,
		percent(user, seen));
	for (size_t i = 0; i < n && i < TOP; i++) {
		uint64_t off;
		const char *name = symbol_of(p, place[i].rip, &off);

		fprintf(to, "%6.2f %%  cpl %u  %016" PRIx64, percent(place[i].n, seen), place[i].cpl, place[i].rip);
		if (place[i].cpl != 3 && *name)
			fprintf(to, "  %s+0x%" PRIx64, name, off);
		fprintf(to, "\n");
	}
	free(place);
}
