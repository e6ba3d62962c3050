/* SPDX-License-Identifier: Apache-2.0 */
/* Finding a command, reading its words, and running it. */
#include "cli/command.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/output.h"
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/str.h"

const struct cli_option cli_common_options[] = {
	{ "--json", 0, CLI_FLAG, .help = "print the result, or the error, as one JSON document" },
	{ "--quiet", 'q', CLI_FLAG, .help = "no progress, and no words about success" },
	{ "--help", 'h', CLI_FLAG, .help = "tell what this command does and takes" },
	{ .name = NULL },
};

/* --- finding ---------------------------------------------------------------------------------- */

/* Is WORD, as somebody has typed it, the LEN bytes at P? "ls" and "list" are the same word: the one that is not in the help, too. */
static bool is_word(const char *word, const char *p, size_t len)
{
	bool is_list = (len == 2 && !memcmp(p, "ls", 2)) || (len == 4 && !memcmp(p, "list", 4));

	if (is_list && (!strcmp(word, "ls") || !strcmp(word, "list")))
		return true;
	return strlen(word) == len && !memcmp(word, p, len);
}

/* Words of PATH that ARGV begins with; *IS_ALL: that is all of them. */
static int path_match(const char *path, int argc, char **argv, bool *is_all)
{
	int n = 0;

	for (const char *p = path; ; p++, n++) {
		size_t len = strcspn(p, " ");

		*is_all = false;
		if (n >= argc || !is_word(argv[n], p, len))
			return n;
		p += len;
		*is_all = !*p;
		if (!*p)
			return n + 1;
	}
}

const struct cli_command *cli_find(int argc, char **argv, int *n_words)
{
	const struct cli_command *best = NULL;

	*n_words = 0;
	for (unsigned i = 0; cli_commands[i]; i++) {
		bool is_all;
		int n = path_match(cli_commands[i]->path, argc, argv, &is_all);

		if (is_all && (!best || n > *n_words)) {
			best = cli_commands[i];
			*n_words = n;
		} else if (!best && n > *n_words) {
			*n_words = n;
		}
	}
	return best;
}

static const struct cli_group *group_find(const char *word)
{
	for (unsigned i = 0; cli_groups[i]; i++)
		if (!strcmp(cli_groups[i]->path, word))
			return cli_groups[i];
	return NULL;
}

/* "there is no command 'disk crate'; did you mean 'disk create'?" */
static int cli_unknown(int argc, char **argv, struct err *err)
{
	const char *best = NULL;
	unsigned distance = 4;
	char typed[128] = "";

	for (int i = 0; i < argc && i < 3 && argv[i][0] != '-'; i++) {
		size_t n = strlen(typed);

		snprintf(typed + n, sizeof(typed) - n, "%s%s", n ? " " : "", argv[i]);
		for (unsigned k = 0; cli_commands[k]; k++) {
			unsigned d = str_distance(cli_commands[k]->path, typed);

			if (d < distance) {
				distance = d;
				best = cli_commands[k]->path;
			}
		}
	}
	if (best)
		return err_set(err, -EINVAL, "there is no command '%s'; did you mean '%s'?", typed, best);
	return err_set(err, -EINVAL, "there is no command '%s'; 'viv --help' lists all", typed);
}

/* --- options ---------------------------------------------------------------------------------- */

static const struct cli_option *table_find(const struct cli_option *t, const char *name, size_t len)
{
	for (; t && t->name; t++) {
		if (len == 2 && name[1] != '-' ? t->letter && t->letter == name[1] :
		    strlen(t->name) == len && !memcmp(t->name, name, len))
			return t;
	}
	return NULL;
}

static const struct cli_option *option_find(const struct cli_command *cmd, const char *name, size_t len)
{
	const struct cli_option *o = table_find(cmd->options, name, len);

	return o ? o : table_find(cli_common_options, name, len);
}

static int option_unknown(const struct cli_command *cmd, const char *name, struct err *err)
{
	const struct cli_option *const tables[] = { cmd->options, cli_common_options };
	const char *best = NULL;
	unsigned distance = 4;

	for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
		for (const struct cli_option *o = tables[i]; o && o->name; o++) {
			unsigned d = str_distance(o->name, name);

			if (d < distance) {
				distance = d;
				best = o->name;
			}
		}
	}
	if (best)
		return err_set(err, -EINVAL, "unknown option '%s'; did you mean '%s'?", name, best);
	return err_set(err, -EINVAL, "unknown option '%s'; 'viv %s --help' lists all", name, cmd->path);
}

static bool choice_is(const char *choices, const char *text)
{
	size_t n = strlen(text);

	for (const char *p = choices; *p; p += strcspn(p, " "), p += *p == ' ')
		if (strcspn(p, " ") == n && !memcmp(p, text, n))
			return true;
	return false;
}

static int option_value(const struct cli_option *o, const char *text, uint64_t *num, struct err *err)
{
	struct err why = ERR_INIT;
	int r = 0;

	*num = 0;
	if (o->kind == CLI_SIZE)
		r = str_parse_size(num, text, &why);
	else if (o->kind == CLI_UINT)
		r = str_parse_u64(num, text, &why);
	else if (o->kind == CLI_CHOICE && !choice_is(o->choices, text))
		r = err_set(&why, -EINVAL, "'%s' is none of: %s", text, o->choices);
	return r < 0 ? err_set(err, r, "%s: %s", o->name, why.msg) : 0;
}

/* One option at ARGV[0]: how many words it took. */
static int parse_option(struct cli *c, int argc, char **argv, struct err *err)
{
	const char *word = argv[0], *eq = strchr(word, '=');
	bool is_long = word[1] == '-';
	size_t len = is_long && eq ? (size_t)(eq - word) : is_long ? strlen(word) : 2;
	const struct cli_option *o = option_find(c->cmd, word, len);
	const char *text = is_long ? (eq ? eq + 1 : NULL) : word[2] ? word + 2 : NULL;
	int n = 1;

	if (!o)
		return option_unknown(c->cmd, word, err);
	if (o->kind == CLI_FLAG && text)
		return err_set(err, -EINVAL, "%s takes no value", o->name);
	if (o->kind != CLI_FLAG && !text) {
		if (argc < 2)
			return err_set(err, -EINVAL, "%s needs a value", o->name);
		text = argv[1];
		n = 2;
	}
	int r = o->kind == CLI_FLAG ? 0 : option_value(o, text, &c->given[c->n_given].num, err);

	if (r < 0)
		return r;
	c->given[c->n_given].option = o;
	c->given[c->n_given++].text = text;
	return n;
}

static int parse_check_args(const struct cli *c, struct err *err)
{
	const struct cli_arg *a = c->cmd->args;
	unsigned n = 0;

	for (; a && a->name; a++, n++) {
		if (n >= c->n_args && !a->is_optional)
			return err_set(err, -EINVAL, "%s is missing; 'viv %s --help' tells more", a->name,
				       c->cmd->path);
		if (a->is_repeated)
			return 0;
	}
	if (c->n_args > n)
		return err_set(err, -EINVAL, "there is no place for '%s'; 'viv %s --help' tells what it takes",
			       c->args[n], c->cmd->path);
	return 0;
}

int cli_parse(struct cli *c, const struct cli_command *cmd, int argc, char **argv, struct err *err)
{
	bool is_over = false;

	*c = (struct cli){ .cmd = cmd };
	if (argc > CLI_WORDS_MAX)
		return err_set(err, -E2BIG, "more than %d words", CLI_WORDS_MAX);
	for (int i = 0, n; i < argc; i += n) {
		n = 1;
		if (is_over || argv[i][0] != '-' || !argv[i][1]) {
			c->args[c->n_args++] = argv[i];
		} else if (!strcmp(argv[i], "--")) {
			is_over = true;
		} else {
			n = parse_option(c, argc - i, argv + i, err);
			if (n < 0)
				return n;
		}
	}
	c->is_json = cli_flag(c, "--json");
	c->is_quiet = cli_flag(c, "--quiet");
	c->wants_help = cli_flag(c, "--help");
	return c->wants_help ? 0 : parse_check_args(c, err);
}

/* --- what a command asks -------------------------------------------------------------------------- */

/* The last one of NAME in what was given, -1: none. */
static int given_find(const struct cli *c, const char *name, const struct cli_option **o)
{
	*o = option_find(c->cmd, name, strlen(name));
	assert(*o);
	for (unsigned i = c->n_given; i-- > 0;)
		if (c->given[i].option == *o)
			return (int)i;
	return -1;
}

bool cli_has(const struct cli *c, const char *name)
{
	const struct cli_option *o;

	return given_find(c, name, &o) >= 0;
}

bool cli_flag(const struct cli *c, const char *name)
{
	return cli_has(c, name);
}

const char *cli_str(const struct cli *c, const char *name)
{
	const struct cli_option *o;
	int i = given_find(c, name, &o);

	return i < 0 ? o->def : c->given[i].text;
}

uint64_t cli_num(const struct cli *c, const char *name)
{
	const struct cli_option *o;
	int i = given_find(c, name, &o);
	uint64_t v = 0;

	if (i >= 0)
		return c->given[i].num;
	if (o->def)
		(void)option_value(o, o->def, &v, NULL);
	return v;
}

const char *cli_nth(const struct cli *c, const char *name, unsigned nth)
{
	const struct cli_option *o = option_find(c->cmd, name, strlen(name));

	assert(o && o->is_repeatable);
	for (unsigned i = 0; i < c->n_given; i++)
		if (c->given[i].option == o && !nth--)
			return c->given[i].text;
	return NULL;
}

const char *cli_arg(const struct cli *c, unsigned i)
{
	return i < c->n_args ? c->args[i] : NULL;
}

/* --- running ---------------------------------------------------------------------------------- */

static int cli_report(bool is_json, int status, const struct err *err)
{
	if (is_json)
		output_json_error(status, err->code, err->msg);
	log_error("%s", err->msg);
	return status;
}

static bool words_have(int argc, char **argv, const char *word)
{
	for (int i = 0; i < argc && strcmp(argv[i], "--"); i++)
		if (!strcmp(argv[i], word))
			return true;
	return false;
}

static int cli_run(const struct cli_command *cmd, int argc, char **argv, bool is_parse_only)
{
	AUTO(free) struct cli *c = malloc(sizeof(*c));
	struct err err = ERR_INIT;
	int r = c ? cli_parse(c, cmd, argc, argv, &err) : err_set(&err, -ENOMEM, "out of memory");

	if (r < 0) {
		return cli_report(words_have(argc, argv, "--json"), c ? CLI_USAGE : CLI_FAILED, &err);
	}
	if (c->wants_help) {
		cli_help_command(stdout, cmd);
		return CLI_DONE;
	}
	if (is_parse_only)
		return CLI_DONE;
	r = cmd->run(c, &err);
	if (!r && fflush(stdout) == EOF)
		r = err_set(&err, -errno, "cannot write the result to standard output: %s", strerror(errno));
	return r < 0 ? cli_report(c->is_json, cli_status_of(r), &err) : r;
}

/* `viv --help`, `viv GROUP`, `viv GROUP --print-man` and the like; -1: none of these. */
static int cli_answer(int argc, char **argv)
{
	const struct cli_group *g = argc > 0 ? group_find(argv[0]) : NULL;
	const char *word = argc > (g != NULL) ? argv[g != NULL] : "--help";

	if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help")) {
		if (g)
			cli_help_group(stdout, g);
		else
			cli_help_all(stdout);
	} else if (!strcmp(word, "--print-man")) {
		cli_man(stdout, g);
	} else if (!g && !strcmp(word, "--version")) {
		printf("viv %s\n", VIV_VERSION);
	} else if (!g && !strcmp(word, "--print-completion")) {
		cli_completion(stdout);
	} else {
		return -1;
	}
	return g && argc == 1 ? CLI_USAGE : argc == 0 ? CLI_USAGE : CLI_DONE;
}

int cli_main(int argc, char **argv)
{
	bool is_parse_only = argc > 1 && !strcmp(argv[1], "--parse-only");
	struct err err = ERR_INIT;
	int n;

	argc -= 1 + is_parse_only;
	argv += 1 + is_parse_only;
	const struct cli_command *cmd = cli_find(argc, argv, &n);

	if (cmd)
		return cli_run(cmd, argc - n, argv + n, is_parse_only);
	int status = cli_answer(argc, argv);

	if (status >= 0)
		return status;
	if (argv[0][0] == '-')
		err_set(&err, -EINVAL, "unknown option '%s': those of a command follow its words, as in 'viv ls --json'; 'viv --help' tells more",
			argv[0]);
	else
		cli_unknown(argc, argv, &err);
	return cli_report(words_have(argc, argv, "--json"), CLI_USAGE, &err);
}
