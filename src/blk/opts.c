/* SPDX-License-Identifier: Apache-2.0 */
#include "blk/opts.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "util/err.h"
#include "util/str.h"

static int opts_find(const struct blk_opts *o, const char *name)
{
	for (int i = 0; o->table && o->table[i].name; i++)
		if (!strcmp(o->table[i].name, name))
			return i;
	return -1;
}

/* NAME is none: what may have been meant. */
static int opts_unknown(const struct blk_opts *o, const char *name, struct err *err)
{
	const char *best = NULL;
	unsigned best_distance = 4;

	for (int i = 0; o->table && o->table[i].name; i++) {
		unsigned d = str_distance(o->table[i].name, name);

		if (d < best_distance) {
			best_distance = d;
			best = o->table[i].name;
		}
	}
	return err_set(err, -EINVAL, "there is no option '%s'%s%s%s", name, best ? "; did you mean '" : "",
		       best ? best : "", best ? "'?" : "");
}

static int opts_choice(uint64_t *out, const struct blk_opt *t, const char *value, struct err *err)
{
	char known[256] = "";

	for (unsigned i = 0; t->choices[i]; i++) {
		size_t n = strlen(known);

		if (!strcmp(t->choices[i], value)) {
			*out = i;
			return 0;
		}
		snprintf(known + n, sizeof(known) - n, "%s%s", n ? ", " : "", t->choices[i]);
	}
	return err_set(err, -EINVAL, "'%s' is none of: %s", value, known);
}

static int opts_number(uint64_t *out, const struct blk_opt *t, const char *value, struct err *err)
{
	int r = t->type == BLK_OPT_SIZE ? str_parse_size(out, value, err) : str_parse_u64(out, value, err);

	if (!r && (*out < t->min || (t->max && *out > t->max)))
		r = err_set(err, -ERANGE, "'%s' is not between %" PRIu64 " and %" PRIu64, value, t->min,
			    t->max ? t->max : UINT64_MAX);
	return r;
}

static int opts_store(struct blk_opts *o, int i, const char *value, struct err *err)
{
	const struct blk_opt *t = &o->table[i];
	uint64_t num = 0;
	bool flag = false;
	char *str = NULL;
	int r = 0;

	switch (t->type) {
	case BLK_OPT_BOOL:
		r = str_parse_bool(&flag, value, err);
		num = flag;
		break;
	case BLK_OPT_SIZE:
	case BLK_OPT_NUMBER:
		r = opts_number(&num, t, value, err);
		break;
	case BLK_OPT_CHOICE:
		r = opts_choice(&num, t, value, err);
		break;
	case BLK_OPT_STRING:
		str = strdup(value);
		if (!str)
			r = err_set(err, -ENOMEM, "out of memory");
		break;
	}
	if (r < 0)
		return err_wrap(err, r, "%s", t->name);
	free(o->value[i].str);
	o->value[i].str = str;
	o->value[i].num = num;
	return 0;
}

int blk_opts_init(struct blk_opts *o, const struct blk_opt *table, struct err *err)
{
	int r = 0;

	*o = (struct blk_opts){ .table = table };
	for (int i = 0; !r && table && table[i].name; i++) {
		assert(i < BLK_OPTS_MAX);
		if (table[i].def)
			r = opts_store(o, i, table[i].def, err);
	}
	if (r < 0)
		blk_opts_fini(o);
	return r;
}

void blk_opts_fini(struct blk_opts *o)
{
	for (int i = 0; i < BLK_OPTS_MAX; i++) {
		free(o->value[i].str);
		o->value[i].str = NULL;
	}
}

int blk_opts_set(struct blk_opts *o, const char *name, const char *value, struct err *err)
{
	int i = opts_find(o, name);

	if (i < 0)
		return opts_unknown(o, name, err);
	int r = opts_store(o, i, value, err);

	if (!r)
		o->value[i].is_set = true;
	return r;
}

int blk_opts_parse(struct blk_opts *o, const char *text, struct err *err)
{
	char key[64], value[4096];
	bool has_value;
	int r;

	while ((r = str_next_pair(&text, key, sizeof(key), value, sizeof(value), &has_value, err)) > 0) {
		int i = opts_find(o, key);

		if (!has_value && i >= 0 && o->table[i].type != BLK_OPT_BOOL)
			return err_set(err, -EINVAL, "option '%s' needs a value", key);
		r = blk_opts_set(o, key, has_value ? value : "on", err);
		if (r < 0)
			return r;
	}
	return r;
}

bool blk_opts_has(const struct blk_opts *o, const char *name)
{
	return opts_find(o, name) >= 0;
}

bool blk_opts_is_set(const struct blk_opts *o, const char *name)
{
	int i = opts_find(o, name);

	assert(i >= 0);
	return o->value[i].is_set;
}

uint64_t blk_opts_num(const struct blk_opts *o, const char *name)
{
	int i = opts_find(o, name);

	assert(i >= 0);
	return o->value[i].num;
}

const char *blk_opts_str(const struct blk_opts *o, const char *name)
{
	int i = opts_find(o, name);

	assert(i >= 0);
	return o->value[i].str;
}
