/* SPDX-License-Identifier: Apache-2.0 */
/* options_priv.h - a row of the table of options, for options.c (which has the table and fills
 * a configuration by it) and options_doc.c (which prints it). */
#ifndef VM_OPTIONS_PRIV_H
#define VM_OPTIONS_PRIV_H

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
	size_t max_offset;      /* OPT_SIZE, OPT_UINT: the value may be "2,max=8", and this is where 8 goes; 0: it may not */
	bool is_host;           /* of this process, not of the machine: a saved machine has it not */
	bool is_path;           /* of a file: a saved machine has it absolute */
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

#endif
