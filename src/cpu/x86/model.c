/* SPDX-License-Identifier: Apache-2.0 */
/* The x86-64-vN are the levels of the x86-64 psABI (System V ABI, AMD64 supplement, 3.1.1), each with
 * what it builds on; user mode can rely on them. To each model come the features that every x86-64
 * processor has, and of `wanted` those that the engine offers: they are the machine's, not the
 * processor's. */
#include "cpu/x86/model.h"

#include <errno.h>
#include <string.h>
#include "cpu/x86/feature.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/str.h"

static const struct model_row {
	const char *name, *base;        /* BASE: the model that it extends; NULL: what all have */
	const char *adds;               /* names, separated by spaces */
	const char *summary;
} models[] = {
	{ "host", NULL, "", "all that the engine and this host's processor can" },
	{ "base", NULL, "sse3 cx16", "the least that current systems start on" },
	{ "x86-64-v1", NULL, "", "psABI baseline: SSE2" },
	{ "x86-64-v2", "x86-64-v1", "cx16 lahf_lm popcnt sse3 ssse3 sse4_1 sse4_2", "psABI level 2: SSE4.2" },
	{ "x86-64-v3", "x86-64-v2", "xsave avx avx2 bmi1 bmi2 f16c fma lzcnt movbe", "psABI level 3: AVX2" },
	{ "x86-64-v4", "x86-64-v3", "avx512f avx512bw avx512cd avx512dq avx512vl", "psABI level 4: AVX-512" },
};

static const char wanted[] = "x2apic tsc_deadline hypervisor tsc_adjust arch_capabilities spec_ctrl stibp ssbd md_clear";

static const struct field features_fields[] = {
	FIELD_ARRAY(struct x86_features, word, 1),
	FIELD(struct x86_features, xcr0, 1),
};
static const struct state_desc features_desc = {
	.name = "cpu_features", .version = 1, .size = sizeof(struct x86_features),
	.n_fields = ARRAY_LEN(features_fields), .fields = features_fields,
};
static const struct field model_fields[] = {
	FIELD_RAW(struct x86_model, name, 1),
	FIELD_SUB(struct x86_model, features, 1, &features_desc),
	FIELD_SUB(struct x86_model, required, 1, &features_desc),
	FIELD(struct x86_model, is_host, 1),
	FIELD(struct x86_model, is_amd, 1),
};

static int model_check_state(void *state, struct err *err)
{
	struct x86_model *m = state;

	if (!memchr(m->name, 0, sizeof(m->name)))
		return err_set(err, -EPROTO, "the saved CPU model's name has no end");
	m->is_host = m->is_host != 0;
	m->is_amd = m->is_amd != 0;
	return 0;
}

const struct state_desc x86_model_desc = {
	.name = "cpu_model", .version = 1, .size = sizeof(struct x86_model),
	.n_fields = ARRAY_LEN(model_fields), .fields = model_fields, .check = model_check_state,
};

/* --- names --- */

static const struct model_row *model_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(models); i++) {
		if (!strcmp(models[i].name, name))
			return &models[i];
	}
	return NULL;
}

static int model_unknown(const char *name, struct err *err)
{
	char all[256] = "";

	for (size_t i = 0; i < ARRAY_LEN(models); i++) {
		size_t n = strlen(all);

		snprintf(all + n, sizeof(all) - n, "%s%s", i ? ", " : "", models[i].name);
	}
	return err_set(err, -EINVAL, "there is no CPU model '%s'; there are: %s", name, all);
}

static int model_unknown_feature(const char *name, struct err *err)
{
	const char *like = x86_feature_suggest(name);

	if (like)
		return err_set(err, -EINVAL, "unknown CPU feature '%s'; did you mean '%s'?", name, like);
	return err_set(err, -EINVAL, "unknown CPU feature '%s'; --list-cpus prints those that exist", name);
}

/* Turn on what NAMES says. */
static void model_add(struct x86_features *f, const char *names)
{
	char name[32];

	while (*names) {
		size_t n = strcspn(names, " ");

		snprintf(name, sizeof(name), "%.*s", (int)n, names);
		x86_features_put(f, x86_feature_find(name), true);
		names += n + (names[n] == ' ');
	}
}

static void model_features(struct x86_features *f, const struct model_row *row)
{
	if (row->base) {
		model_features(f, model_find(row->base));
	} else {
		for (const struct x86_feature_row *r = x86_feature_rows; r->name; r++)
			x86_features_put(f, r, r->is_fixed);
	}
	model_add(f, row->adds);
}

/* --- SPEC --- */

/* A specification in parts: what the user turned on and off by name. */
struct model_spec {
	const struct model_row *row;
	struct x86_features on, off;
	const char *vendor;             /* NULL: the engine's choice */
};

static int model_parse_vendor(struct model_spec *s, const char *value, struct err *err)
{
	static const char *const names[] = { "intel", "amd" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (!strcmp(value, names[i])) {
			s->vendor = names[i];
			return 0;
		}
	}
	return err_set(err, -EINVAL, "vendor: '%s' is none of: intel amd", value);
}

static int model_parse_change(struct model_spec *s, const char *key, const char *value, bool has_value, struct err *err)
{
	const struct x86_feature_row *r = x86_feature_find(key);
	bool is_on = true;

	if (!strcmp(key, "vendor"))
		return model_parse_vendor(s, has_value ? value : "", err);
	int ret = has_value ? str_parse_bool(&is_on, value, err) : 0;

	if (!r)
		return model_unknown_feature(key, err);
	if (ret < 0)
		return err_wrap(err, ret, "%s", r->name);
	if (!is_on && r->is_fixed)
		return err_set(err, -EINVAL, "'%s' cannot be turned off: every x86-64 processor has it", r->name);
	x86_features_put(&s->on, r, is_on);
	x86_features_put(&s->off, r, !is_on);
	return 0;
}

/* Does a feature that was turned on need one that was turned off? */
static int model_check_needs(const struct model_spec *s, struct err *err)
{
	for (const struct x86_feature_row *r = x86_feature_rows; r->name; r++) {
		const char *const needs[] = { r->needs, r->needs_too };

		for (size_t i = 0; i < ARRAY_LEN(needs); i++) {
			if (needs[i] && x86_features_has(&s->on, r) && x86_features_has(&s->off, x86_feature_find(needs[i])))
				return err_set(err, -EINVAL, "'%s' needs '%s', which is turned off", r->name, needs[i]);
		}
	}
	return 0;
}

static int model_parse(struct model_spec *s, const char *spec, struct err *err)
{
	char key[64], value[16];
	bool has_value;

	*s = (struct model_spec){ .row = NULL };
	int r = str_next_pair(&spec, key, sizeof(key), value, sizeof(value), &has_value, err);
	if (r < 0)
		return r;
	s->row = r && !has_value ? model_find(key) : NULL;
	if (!s->row)
		return model_unknown(r ? key : "", err);
	while ((r = str_next_pair(&spec, key, sizeof(key), value, sizeof(value), &has_value, err)) > 0) {
		r = model_parse_change(s, key, value, has_value, err);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : model_check_needs(s, err);
}

int x86_model_check(const char *spec, struct err *err)
{
	struct model_spec s;

	return model_parse(&s, spec, err);
}

/* --- models --- */

/* Who lacks the feature, in a sentence. */
static int model_refuse(const struct x86_feature_row *r, const char *model, const struct x86_features *engine,
			const char *engine_name, struct err *err)
{
	if (x86_features_has(engine, r))
		return err_set(err, -ENOTSUP, "CPU model '%s' has '%s', which this host's processor does not have; "
			       "'%s=off' leaves it out", model, r->name, r->name);
	return err_set(err, -ENOTSUP, "CPU model '%s' has '%s', which engine '%s' cannot execute; '%s=off' leaves it out",
		       model, r->name, engine_name, r->name);
}

static void features_merge(struct x86_features *f, const struct x86_features *on)
{
	for (unsigned w = 0; w < X86_N_WORDS; w++)
		f->word[w] |= on->word[w];
}

static void features_remove(struct x86_features *f, const struct x86_features *off)
{
	for (unsigned w = 0; w < X86_N_WORDS; w++)
		f->word[w] &= ~off->word[w];
}

static void features_intersect(struct x86_features *f, const struct x86_features *with)
{
	for (unsigned w = 0; w < X86_N_WORDS; w++)
		f->word[w] &= with->word[w];
}

/* What was turned on, but lost for want of something that the model does not have. */
static int model_check_kept(const struct x86_model *m, const struct x86_features *on, struct err *err)
{
	const struct x86_feature_row *r = x86_features_missing(&m->features, on);

	if (!r)
		return 0;
	return err_set(err, -EINVAL, "'%s' needs '%s'%s%s%s, which CPU model '%s' does not have: turn it on as well", r->name,
		       r->needs, r->needs_too ? " and '" : "", r->needs_too ? r->needs_too : "",
		       r->needs_too ? "'" : "", m->name);
}

int x86_model_make(struct x86_model *out, const char *spec, const struct x86_features *engine,
		   const char *engine_name, struct err *err)
{
	struct x86_model m = { .is_host = 0 };
	struct x86_features usable;
	struct model_spec s;
	int r = model_parse(&s, spec, err);

	if (r < 0)
		return r;
	snprintf(m.name, sizeof(m.name), "%s", s.row->name);
	m.is_host = s.row == models;
	if (s.vendor && engine == &x86_features_allowed)
		return err_set(err, -ENOTSUP, "engine '%s' shows the vendor of this host's processor; leave 'vendor' out", engine_name);
	m.is_amd = s.vendor && !strcmp(s.vendor, "amd");
	x86_features_usable(&usable, engine);
	if (!m.is_host)
		model_features(&m.required, s.row);
	features_merge(&m.required, &s.on);
	features_remove(&m.required, &s.off);
	const struct x86_feature_row *lacks = x86_features_missing(&usable, &m.required);

	if (lacks)
		return model_refuse(lacks, m.name, engine, engine_name, err);
	if (m.is_host)
		m.features = usable;
	else
		model_add(&m.features, wanted);
	features_intersect(&m.features, &usable);
	features_merge(&m.features, &m.required);
	features_remove(&m.features, &s.off);
	m.features.xcr0 = usable.xcr0;
	x86_features_close(&m.features);
	features_intersect(&m.required, &m.features);
	r = model_check_kept(&m, &s.on, err);
	if (r < 0)
		return r;
	*out = m;
	return 0;
}

int x86_model_fits(const struct x86_model *model, const struct x86_features *engine, const char *engine_name,
		   struct err *err)
{
	struct x86_features usable;

	x86_features_usable(&usable, engine);
	const struct x86_feature_row *lacks = x86_features_missing(&usable, &model->features);

	return lacks ? err_wrap(err, model_refuse(lacks, model->name, engine, engine_name, err),
				"the machine cannot go on here") : 0;
}

/* --- for people --- */

void x86_model_list(FILE *to)
{
	unsigned column = 0;

	for (size_t i = 0; i < ARRAY_LEN(models); i++) {
		const struct model_row *m = &models[i];

		fprintf(to, "%-12s %s%s%s%s%s\n", m->name, m->summary, m->base || *m->adds ? ": " : "", m->base ? m->base : "",
			m->base ? " " : "", m->adds);
	}
	fprintf(to, "\nvendor=intel, vendor=amd: what the processors of an engine in software call themselves\n");
	fprintf(to, "\nfeatures (NAME=on, NAME=off):\n");
	for (const struct x86_feature_row *r = x86_feature_rows; r->name; r++) {
		if (r->is_fixed)
			continue;
		if (column + strlen(r->name) + 1 > 100) {
			fputc('\n', to);
			column = 0;
		}
		column += (unsigned)fprintf(to, "%s%s", column ? " " : "", r->name);
	}
	fputc('\n', to);
}
