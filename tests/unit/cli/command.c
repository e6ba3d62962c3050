/* SPDX-License-Identifier: Apache-2.0 */
/* Finding commands, reading their words, and that the table says about every command what it has to. */
#include <errno.h>
#include <stdlib.h>
#include "cli/command.h"
#include "cli/output.h"
#include "test.h"
#include "util/cleanup.h"

static const struct cli_command sample = {
	.path = "sample run",
	.args = (const struct cli_arg[]){ { "A", .help = "" }, { "B", .help = "", .is_optional = true },
					  { .name = NULL } },
	.options = (const struct cli_option[]){
		{ "--size", 's', CLI_SIZE, .metavar = "N", .def = "4K" }, { "--count", 0, CLI_UINT, .metavar = "N" },
		{ "--kind", 'k', CLI_CHOICE, .choices = "one two" }, { "--force", 0, CLI_FLAG, .help = "" },
		{ "-o", 'o', CLI_STRING, .metavar = "X", .is_repeatable = true }, { .name = NULL },
	},
};

enum { WORDS = 8 };

/* Parse words up to the first NULL. */
static int parse(struct cli *c, struct err *err, const char *const words[WORDS])
{
	int n = 0;

	while (n < WORDS && words[n])
		n++;
	return cli_parse(c, &sample, n, (char **)(uintptr_t)words, err);
}

#define PARSE(...) parse(c, &err, (const char *const[WORDS]){ __VA_ARGS__ })

TEST(options_may_stand_anywhere_and_the_last_one_counts)
{
	AUTO(free) struct cli *c = malloc(sizeof(*c));
	struct err err = ERR_INIT;

	CHECK_EQ(PARSE("--size=1M", "a", "-s", "2M", "--kind", "two", "b"), 0);
	CHECK_STR(cli_arg(c, 0), "a");
	CHECK_STR(cli_arg(c, 1), "b");
	CHECK(!cli_arg(c, 2));
	CHECK_EQ(cli_num(c, "--size"), 2 << 20);
	CHECK_STR(cli_str(c, "--kind"), "two");
	CHECK(!cli_flag(c, "--force"));
	CHECK(!c->is_json);
}

TEST(defaults_hold_and_letters_take_their_value_attached)
{
	AUTO(free) struct cli *c = malloc(sizeof(*c));
	struct err err = ERR_INIT;

	CHECK_EQ(PARSE("a", "-oone=1", "-o", "two", "--force", "--json"), 0);
	CHECK_EQ(cli_num(c, "--size"), 4096);
	CHECK(!cli_has(c, "--size"));
	CHECK_EQ(cli_num(c, "--count"), 0);
	CHECK_STR(cli_nth(c, "-o", 0), "one=1");
	CHECK_STR(cli_nth(c, "-o", 1), "two");
	CHECK(!cli_nth(c, "-o", 2));
	CHECK(cli_flag(c, "--force"));
	CHECK(c->is_json);
}

TEST(behind_two_dashes_nothing_is_an_option)
{
	AUTO(free) struct cli *c = malloc(sizeof(*c));
	struct err err = ERR_INIT;

	CHECK_EQ(PARSE("--", "--force", "-"), 0);
	CHECK_STR(cli_arg(c, 0), "--force");
	CHECK_STR(cli_arg(c, 1), "-");
	CHECK(!cli_flag(c, "--force"));
}

TEST(what_is_not_understood_is_refused_with_a_sentence)
{
	static const struct { const char *words[WORDS]; const char *says; } bad[] = {
		{ { "a", "--sice", "1" }, "did you mean '--size'?" },
		{ { "a", "--nonsense" }, "unknown option '--nonsense'; 'viv sample run --help' lists all" },
		{ { "a", "--size" }, "--size needs a value" },
		{ { "a", "--size", "many" }, "--size: " },
		{ { "a", "--kind=three" }, "--kind: 'three' is none of: one two" },
		{ { "a", "--force=yes" }, "--force takes no value" },
		{ { "a", "-z" }, "unknown option '-z'" },
		{ { "--force" }, "A is missing" },
		{ { "a", "b", "c" }, "there is no place for 'c'" },
	};
	AUTO(free) struct cli *c = malloc(sizeof(*c));

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct err err = ERR_INIT;

		CHECK_EQ(parse(c, &err, bad[i].words) < 0, 1);
		if (!strstr(err.msg, bad[i].says))
			FAIL("'%s' does not say '%s'", err.msg, bad[i].says);
	}
}

TEST(help_needs_no_arguments)
{
	AUTO(free) struct cli *c = malloc(sizeof(*c));
	struct err err = ERR_INIT;

	CHECK_EQ(PARSE("-h"), 0);
	CHECK(c->wants_help);
}

TEST(commands_are_found_by_all_their_words)
{
	const char *words[] = { "disk", "info", "x" };
	int n = 0;
	const struct cli_command *cmd = cli_find(3, (char **)(uintptr_t)words, &n);

	CHECK(cmd);
	CHECK_STR(cmd->path, "disk info");
	CHECK_EQ(n, 2);
	CHECK(!cli_find(1, (char **)(uintptr_t)words, &n));
	CHECK_EQ(n, 1);
}

TEST(every_command_is_described)
{
	for (unsigned i = 0; cli_commands[i]; i++) {
		const struct cli_command *cmd = cli_commands[i];

		CHECK(cmd->summary && cmd->about && cmd->run);
		CHECK(cmd->examples && cmd->examples[0].line && cmd->examples[0].says);
		CHECK(!strncmp(cmd->examples[0].line, cmd->path, strlen(cmd->path)));
		for (const struct cli_option *o = cmd->options; o && o->name; o++) {
			CHECK(o->name[0] == '-' && o->help);
			CHECK(o->kind == CLI_FLAG || o->kind == CLI_CHOICE || o->metavar);
			CHECK((o->kind == CLI_CHOICE) == (o->choices != NULL));
			for (const struct cli_option *p = cmd->options; p != o; p++)
				CHECK(strcmp(o->name, p->name) && (!o->letter || o->letter != p->letter));
		}
	}
}

TEST(errors_become_statuses_that_are_listed)
{
	CHECK_EQ(cli_status_of(0), CLI_DONE);
	CHECK_EQ(cli_status_of(CLI_DIFFERENT), CLI_DIFFERENT);
	CHECK_EQ(cli_status_of(-ENOSPC), CLI_NO_SPACE);
	CHECK_EQ(cli_status_of(-EBUSY), CLI_BUSY);
	CHECK_EQ(cli_status_of(-EIO), CLI_FAILED);
	for (int e = 1; e < 134; e++) {
		const struct cli_status_row *s = cli_statuses;

		while (s->help && s->status != cli_status_of(-e))
			s++;
		CHECK(s->help);
	}
}

TEST(sizes_are_told_in_units)
{
	char buf[OUTPUT_SIZE_LEN];

	CHECK_STR(output_size(buf, 512), "512 bytes");
	CHECK_STR(output_size(buf, 1024), "1 KiB");
	CHECK_STR(output_size(buf, 20ull << 30), "20 GiB");
	CHECK_STR(output_size(buf, 1000ull << 20), "1000 MiB");
	CHECK_STR(output_size(buf, 3ull << 19), "1.5 MiB");
}
