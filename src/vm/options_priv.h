/* SPDX-License-Identifier: Apache-2.0 */
/* options_priv.h - a row of the table of options, for options.c (which has the table), those that fill a configuration by it
 * (options_value.c, options_args.c, options_json.c, options_saved.c), and options_doc.c (which prints it). */
#ifndef VM_OPTIONS_PRIV_H
#define VM_OPTIONS_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include "vm/config.h"

enum opt_kind {
	OPT_STRING,     /* char *, owned */
	OPT_CHOICE,     /* char *, one of CHOICES (space-separated) */
	OPT_SIZE,       /* uint64_t, bytes */
	OPT_UINT,       /* uint64_t */
	OPT_BOOL,       /* bool, on|off */
	OPT_FLAG,       /* bool, true when named */
	OPT_STRINGS,    /* struct config_strings */
	OPT_LIST,       /* array of structs described by SUB, with a count */
};

struct option {
	const char *arg;        /* on the command line: "--disk"; in sub-tables the key */
	const char *key;        /* in JSON: "disks" */
	enum opt_kind kind;
	size_t offset;          /* in struct config, or in the element of a list */
	const char *metavar;
	const char *def;        /* default as text; NULL: none */
	const char *help;       /* what it is, on one line */
	const char *choices;    /* OPT_CHOICE */
	const char *none;       /* OPT_STRING: the text that stands for no value; NULL: none does */
	size_t max_offset;      /* OPT_SIZE, OPT_UINT: the value may be "2,max=8", and this is where 8 goes; 0: it may not */
	bool is_host;           /* of this process, not of the machine: a saved machine has it not */
	bool is_path;           /* of a file: it is made absolute */
	bool is_socket;         /* of a socket, which has a name of limited length */
	/* Manual page only; NULL: nothing to say. */
	const char *more;       /* sentences */
	const char *example;    /* as typed; in a sub-table without the option's name */
	/* OPT_LIST */
	const struct option *sub;
	const char *positional; /* key that a first element without '=' sets; NULL: none */
	size_t n_offset, elem_size;
	unsigned max;
};

/* An option that says what to do rather than what the machine is. */
struct option_action {
	const char *arg, *metavar, *help;
	enum config_action action;
	int (*load)(struct config *c, const char *value, struct err *err);      /* CONFIG_RUN only */
};

/* For --incoming. */
int config_load_incoming(struct config *c, const char *address, struct err *err);
int config_load_takeover(struct config *c, const char *address, struct err *err);

/* Both end with a row without ARG. */
extern const struct option options[];
extern const struct option_action option_actions[];

/* --- options_value.c --- */

/* The row of TABLE called NAME, as its key or else as its argument; NULL: none. */
const struct option *options_find(const struct option *table, bool by_key, const char *name);
/* -EINVAL: "unknown WHAT 'name'; did you mean 'other'?" */
int options_unknown(const struct option *table, bool by_key, const char *what, const char *name, struct err *err);
/* A copy of TEXT to *TO, which is freed before. */
int options_set_string(char **to, const char *text, struct err *err);
/* Set one scalar of BASE from TEXT; strings append for OPT_STRINGS. */
int options_set(const struct option *o, void *base, const char *text, struct err *err);
/* Where PATH, a file's name or a disk's address, is from everywhere; the caller frees it. NULL and errno: nobody knows. */
char *options_absolute_path(const char *path);
/* Free what the rows of TABLE have in BASE. */
void options_release(const struct option *table, void *base);
/* A new element at the end of a list, with its defaults. Counted at once, so that it is released whatever happens next. */
int options_append(const struct option *o, struct config *base, void **out, struct err *err);

#endif
