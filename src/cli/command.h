/* SPDX-License-Identifier: Apache-2.0 */
/* command.h - what a command of `viv` is, and what it gets when it is run.
 *
 * A command is one const struct cli_command in a file of its own, entered in the table of commands.c.
 * Finding it by what was typed, reading its options, --help, the manual page and the completion of a
 * shell all walk that table: nothing about a command is said anywhere else. docs/design/cli.md tells
 * how to add one. One thread. */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include <stdbool.h>
#include <stdint.h>
#include "cli/doc.h"
#include "util/err.h"

enum cli_kind {
	CLI_FLAG,               /* true when named */
	CLI_STRING,
	CLI_CHOICE,             /* one of CHOICES */
	CLI_SIZE,               /* bytes, with a suffix */
	CLI_UINT,
};

struct cli_option {
	const char *name;       /* "--format"; a table ends with NULL */
	char letter;            /* 'f': -f means the same; 0: none */
	enum cli_kind kind;
	bool is_repeatable;     /* else the last one counts */
	const char *metavar;    /* "FORMAT"; FLAG and CHOICE: NULL */
	const char *choices;    /* separated by spaces */
	const char *def;        /* as typed, for help and for cli_size(), cli_uint(), cli_str(); NULL: none */
	const char *help;       /* one line */
	const char *more;       /* sentences for the manual page; NULL: none */
};

struct cli_arg {
	const char *name;       /* "FILE"; a table ends with NULL */
	const char *help;
	bool is_optional;       /* and so are all that follow */
	bool is_repeated;       /* the last one only */
};

struct cli_example { const char *line, *says; };        /* LINE NULL ends */

struct cli;
struct cli_command {
	const char *path;       /* words: "disk create" */
	const char *summary;    /* one line, imperative, no full stop */
	const char *about;      /* sentences */
	const struct cli_arg *args;             /* NULL: none */
	const struct cli_option *options;       /* besides the common ones; NULL: none */
	const struct cli_example *examples;     /* at least one */
	/* Do it. 0, or a positive enum cli_status, or -errno with the sentence. */
	int (*run)(struct cli *c, struct err *err);
};

/* Commands whose first word is PATH: they share one page of the manual. */
struct cli_group {
	const char *path, *summary, *about;
	void (*describe)(struct cli_doc *d);    /* further sections of the page; NULL: none */
	const char *see_also;                   /* "qemu-img(1), nbdinfo(1)" */
};

/* All there are; NULL ends. (commands.c) */
extern const struct cli_command *const cli_commands[];
extern const struct cli_group *const cli_groups[];
/* What every command takes (command.c). */
extern const struct cli_option cli_common_options[];

/* --- exit status ------------------------------------------------------------------------------ */

/* Stable: scripts rely on the numbers. The words are in the table of status.c. */
enum cli_status {
	CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_DIFFERENT = 3, CLI_BUSY = 4, CLI_NO_SPACE = 5,
	CLI_EXISTS = 6, CLI_NOT_FOUND = 7, CLI_DENIED = 8, CLI_UNSUPPORTED = 9, CLI_INTERRUPTED = 130,
};
struct cli_status_row { int status; const char *help; };
extern const struct cli_status_row cli_statuses[];      /* HELP NULL ends */
/* The status of what a command returned: negative errno, or a status as it is. */
int cli_status_of(int result);

/* --- one invocation --------------------------------------------------------------------------- */

enum { CLI_WORDS_MAX = 1024 };

/* Words that were typed, as a command sees them. Borrows argv. */
struct cli {
	const struct cli_command *cmd;
	struct {
		const struct cli_option *option;
		const char *text;
		uint64_t num;
	} given[CLI_WORDS_MAX];
	unsigned n_given;
	const char *args[CLI_WORDS_MAX];
	unsigned n_args;
	bool is_json;           /* --json */
	bool is_quiet;          /* --quiet */
	bool wants_help;
};

/* The command that ARGV names, and how many of its words that took. NULL: none (a group has N > 0). */
const struct cli_command *cli_find(int argc, char **argv, int *n_words);
/* Read the words after the command's name. -EINVAL with the sentence. */
int cli_parse(struct cli *c, const struct cli_command *cmd, int argc, char **argv, struct err *err);

/* By name; an option that the command's table has not is a mistake of ours and asserted. */
bool cli_flag(const struct cli *c, const char *name);
bool cli_has(const struct cli *c, const char *name);            /* was it given? */
const char *cli_str(const struct cli *c, const char *name);     /* NULL: not given, no default */
uint64_t cli_num(const struct cli *c, const char *name);        /* SIZE and UINT; without a default 0 */
/* The I-th of a repeatable one, NULL: there are fewer. */
const char *cli_nth(const struct cli *c, const char *name, unsigned i);
/* The I-th argument, NULL: not given. */
const char *cli_arg(const struct cli *c, unsigned i);

/* The command line of `viv`; returns the exit status. */
int cli_main(int argc, char **argv);

#endif
