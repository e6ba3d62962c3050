/* SPDX-License-Identifier: Apache-2.0 */
/* opts.h - options of a format, described once by a table: the command line, the manual and the
 * format itself walk the same one. Any thread; the caller owns the struct. */
#ifndef BLK_OPTS_H
#define BLK_OPTS_H

#include <stdbool.h>
#include <stdint.h>
#include "util/cleanup.h"

struct err;

enum blk_opt_type { BLK_OPT_BOOL, BLK_OPT_SIZE, BLK_OPT_NUMBER, BLK_OPT_STRING, BLK_OPT_CHOICE };

struct blk_opt {
	const char *name;               /* "cluster_size"; a table ends with NULL */
	enum blk_opt_type type;
	const char *def;                /* as a user would write it; NULL: not set */
	const char *help;               /* one line */
	uint64_t min, max;              /* SIZE and NUMBER; MAX 0: no limit */
	const char *const *choices;     /* CHOICE: ends with NULL; the value is the index */
};

enum { BLK_OPTS_MAX = 32 };

struct blk_opts {
	const struct blk_opt *table;
	struct {
		bool is_set;            /* by someone, not by its default */
		uint64_t num;           /* BOOL, SIZE, NUMBER, CHOICE */
		char *str;              /* STRING; owned */
	} value[BLK_OPTS_MAX];
};

/* All at their defaults. TABLE NULL: there are none. */
int blk_opts_init(struct blk_opts *o, const struct blk_opt *table, struct err *err);
void blk_opts_fini(struct blk_opts *o);         /* zeroed is fine */
static inline void auto_blk_opts_fini(struct blk_opts *o) { blk_opts_fini(o); }

/* Set one from text. -EINVAL: no such option ("did you mean"), not a value of it. */
int blk_opts_set(struct blk_opts *o, const char *name, const char *value, struct err *err);
/* Set from "name=value,name=value"; a BOOL may stand alone. */
int blk_opts_parse(struct blk_opts *o, const char *text, struct err *err);

bool blk_opts_has(const struct blk_opts *o, const char *name);  /* is there a row NAME? */
/* The table must have NAME. */
bool blk_opts_is_set(const struct blk_opts *o, const char *name);
uint64_t blk_opts_num(const struct blk_opts *o, const char *name);
const char *blk_opts_str(const struct blk_opts *o, const char *name);  /* NULL: not set */

#endif
