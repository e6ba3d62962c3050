/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/doc.h"

#include <ctype.h>
#include <string.h>
#include "cli/command.h"
#include "util/roff.h"

enum { HELP_COLUMN = 30, HELP_WIDTH = 100 };

/* --- text ------------------------------------------------------------------------------------- */

/* Words of TEXT in lines of HELP_WIDTH, each after INDENT spaces; the first begins at COLUMN. */
static void help_wrap(FILE *to, const char *text, int indent, int column)
{
	for (const char *p = text; *p;) {
		int n = (int)strcspn(p, " ");

		if (column > indent && column + 1 + n > HELP_WIDTH) {
			fprintf(to, "\n%*s", indent, "");
			column = indent;
		}
		column += fprintf(to, "%s%.*s", column > indent && p != text ? " " : "", n, p);
		p += n;
		p += *p == ' ';
	}
	fputc('\n', to);
}

void cli_doc_section(struct cli_doc *d, const char *title)
{
	if (d->is_man)
		fprintf(d->to, ".SH %s\n", title);
	else
		fprintf(d->to, "\n%s:\n", title);
}

void cli_doc_text(struct cli_doc *d, const char *sentences)
{
	if (d->is_man) {
		fputs(".PP\n", d->to);
		roff_put(d->to, sentences, false);
		fputc('\n', d->to);
	} else {
		help_wrap(d->to, sentences, 0, 0);
	}
}

static void help_entry(FILE *to, const char *name, const char *value, const char *help, const char *def)
{
	char text[512];
	int n = fprintf(to, "  %s%s%s", name, *value ? " " : "", value);

	snprintf(text, sizeof(text), def ? "%s (default: %s)" : "%s", help, def);
	if (n + 2 > HELP_COLUMN)
		n = fprintf(to, "\n") - 1;
	fprintf(to, "%*s", HELP_COLUMN - n, "");
	help_wrap(to, text, HELP_COLUMN, HELP_COLUMN);
}

void cli_doc_entry(struct cli_doc *d, const char *name, const char *value, const char *help, const char *def)
{
	if (!d->is_man) {
		help_entry(d->to, name, value, help, def);
		return;
	}
	fputs(".TP\n\\fB", d->to);
	roff_put(d->to, name, true);
	fputs("\\fR", d->to);
	if (*value) {
		fputs(" \\fI", d->to);
		roff_put(d->to, value, true);
		fputs("\\fR", d->to);
	}
	fputc('\n', d->to);
	roff_put(d->to, help, false);
	if (def) {
		fputs(" (default: ", d->to);
		roff_put(d->to, def, true);
		fputc(')', d->to);
	}
	fputs(strchr(".!?", help[strlen(help) - 1]) && !def ? "\n" : ".\n", d->to);
}

/* --- a command -------------------------------------------------------------------------------- */

/* "on|off" or the metavar. */
static const char *option_value_text(const struct cli_option *o, char *buf, size_t cap)
{
	if (o->kind == CLI_FLAG)
		return "";
	if (o->kind != CLI_CHOICE)
		return o->metavar;
	snprintf(buf, cap, "%s", o->choices);
	for (char *p = buf; *p; p++)
		*p = *p == ' ' ? '|' : *p;
	return buf;
}

static void doc_option(struct cli_doc *d, const struct cli_option *o)
{
	char name[64], value[128];

	if (o->letter && o->name[1] == '-')
		snprintf(name, sizeof(name), "-%c, %s", o->letter, o->name);
	else
		snprintf(name, sizeof(name), d->is_man || o->letter ? "%s" : "    %s", o->name);
	cli_doc_entry(d, name, option_value_text(o, value, sizeof(value)), o->help, o->def);
	if (d->is_man && o->more) {
		roff_put(d->to, o->more, false);
		fputc('\n', d->to);
	}
}

/* "FILE [SIZE] [NAME...]" */
static void synopsis_args(const struct cli_command *cmd, char *buf, size_t cap)
{
	size_t n = 0;

	buf[0] = '\0';
	for (const struct cli_arg *a = cmd->args; a && a->name && n < cap; a++)
		n += (size_t)snprintf(buf + n, cap - n, " %s%s%s%s", a->is_optional ? "[" : "", a->name,
				      a->is_repeated ? "..." : "", a->is_optional ? "]" : "");
}

void cli_help_command(FILE *to, const struct cli_command *cmd)
{
	struct cli_doc d = { .to = to };
	char args[128];

	synopsis_args(cmd, args, sizeof(args));
	fprintf(to, "usage: viv %s%s%s\n\n", cmd->path, args, cmd->options ? " [OPTION...]" : "");
	help_wrap(to, cmd->about, 0, 0);
	if (cmd->args)
		cli_doc_section(&d, "arguments");
	for (const struct cli_arg *a = cmd->args; a && a->name; a++)
		cli_doc_entry(&d, a->name, "", a->help, NULL);
	cli_doc_section(&d, "options");
	for (const struct cli_option *o = cmd->options; o && o->name; o++)
		doc_option(&d, o);
	for (const struct cli_option *o = cli_common_options; o->name; o++)
		doc_option(&d, o);
	cli_doc_section(&d, "examples");
	for (const struct cli_example *e = cmd->examples; e->line; e++)
		fprintf(to, "  viv %s\n      %s\n", e->line, e->says);
}

/* --- lists ------------------------------------------------------------------------------------ */

static bool is_in_group(const struct cli_command *cmd, const struct cli_group *g)
{
	size_t n = strcspn(cmd->path, " ");

	if (g)
		return strlen(g->path) == n && !memcmp(g->path, cmd->path, n);
	for (unsigned i = 0; cli_groups[i]; i++)
		if (is_in_group(cmd, cli_groups[i]))
			return false;
	return true;
}

void cli_help_group(FILE *to, const struct cli_group *g)
{
	struct cli_doc d = { .to = to };

	fprintf(to, "usage: viv %s COMMAND ...\n\n", g->path);
	help_wrap(to, g->about, 0, 0);
	cli_doc_section(&d, "commands");
	for (unsigned i = 0; cli_commands[i]; i++)
		if (is_in_group(cli_commands[i], g))
			cli_doc_entry(&d, cli_commands[i]->path, "", cli_commands[i]->summary, NULL);
	fprintf(to, "\n'viv COMMAND --help' tells more, with examples; 'man viv-%s' tells all.\n", g->path);
}

static const char about_viv[] =
	"viv is the command line of Vivarium, a virtualization platform. A command is one or more words; "
	"options may stand anywhere behind them, and behind '--' nothing is an option.";

static void doc_groups(struct cli_doc *d)
{
	for (unsigned i = 0; cli_groups[i]; i++)
		cli_doc_entry(d, cli_groups[i]->path, "COMMAND", cli_groups[i]->summary, NULL);
	for (unsigned i = 0; cli_commands[i]; i++)
		if (is_in_group(cli_commands[i], NULL))
			cli_doc_entry(d, cli_commands[i]->path, "", cli_commands[i]->summary, NULL);
}

static void doc_general_options(struct cli_doc *d)
{
	cli_doc_entry(d, "--help", "", "list the commands; behind a command: tell what it does and takes", NULL);
	cli_doc_entry(d, "--version", "", "print the version", NULL);
	cli_doc_entry(d, "--parse-only", "COMMAND ...", "judge a command line, and do nothing", NULL);
	cli_doc_entry(d, "--print-man", "", "print this page as roff; behind the name of a group, that of the group",
		      NULL);
	cli_doc_entry(d, "--print-completion", "", "print a script by which bash completes command lines", NULL);
}

void cli_help_all(FILE *to)
{
	struct cli_doc d = { .to = to };

	fprintf(to, "usage: viv COMMAND ...\n\n");
	help_wrap(to, about_viv, 0, 0);
	cli_doc_section(&d, "commands");
	doc_groups(&d);
	cli_doc_section(&d, "options");
	doc_general_options(&d);
}

/* --- manual pages ------------------------------------------------------------------------------- */

static void man_command(struct cli_doc *d, const struct cli_command *cmd)
{
	char args[128];

	synopsis_args(cmd, args, sizeof(args));
	fprintf(d->to, ".SS \"viv %s%s\"\n", cmd->path, args);
	roff_put(d->to, cmd->about, false);
	fputc('\n', d->to);
	for (const struct cli_arg *a = cmd->args; a && a->name; a++)
		cli_doc_entry(d, a->name, "", a->help, NULL);
	for (const struct cli_option *o = cmd->options; o && o->name; o++)
		doc_option(d, o);
	for (const struct cli_example *e = cmd->examples; e->line; e++) {
		fprintf(d->to, ".PP\nExample: %s:\n.PP\n.EX\nviv ", e->says);
		roff_put(d->to, e->line, true);
		fputs("\n.EE\n", d->to);
	}
}

static void man_name(struct cli_doc *d, const struct cli_group *g)
{
	char title[64], name[64];
	size_t i;

	snprintf(name, sizeof(name), g ? "viv-%s" : "viv", g ? g->path : "");
	for (i = 0; name[i]; i++)
		title[i] = (char)toupper((unsigned char)name[i]);
	title[i] = '\0';
	fprintf(d->to, ".\\\" SPDX-License-Identifier: Apache-2.0\n.\\\" Printed by viv%s%s --print-man; "
		"change src/cli instead.\n.TH ", g ? " " : "", g ? g->path : "");
	roff_put(d->to, title, true);
	fprintf(d->to, " 1 \"\" \"Vivarium %s\" \"Vivarium\"\n.SH NAME\n", VIV_VERSION);
	roff_put(d->to, name, true);
	fprintf(d->to, " \\- %s\n.SH SYNOPSIS\n.B viv%s%s\n.IR COMMAND \" ...\"\n.SH DESCRIPTION\n",
		g ? g->summary : "command line of a virtualization platform", g ? " " : "", g ? g->path : "");
	roff_put(d->to, g ? g->about : about_viv, false);
	fputc('\n', d->to);
}

static void man_statuses(struct cli_doc *d)
{
	char number[16];

	cli_doc_section(d, "EXIT STATUS");
	for (const struct cli_status_row *s = cli_statuses; s->help; s++) {
		snprintf(number, sizeof(number), "%d", s->status);
		cli_doc_entry(d, number, "", s->help, NULL);
	}
	cli_doc_text(d, "Whatever fails is told in one sentence on standard error. With --json standard output has "
			"one document in any case: the result, or {\"error\": {\"status\": N, \"code\": \"ENOSPC\", "
			"\"message\": \"...\"}}.");
}

static void man_see_also(struct cli_doc *d, const struct cli_group *g)
{
	cli_doc_section(d, "SEE ALSO");
	if (g) {
		fputs(".BR viv (1)", d->to);
		if (g->see_also)
			fprintf(d->to, ",\n%s", g->see_also);
		fputc('\n', d->to);
		return;
	}
	for (unsigned i = 0; cli_groups[i]; i++)
		fprintf(d->to, ".BR viv\\-%s (1),\n", cli_groups[i]->path);
	fputs(".BR viv\\-vmm (1)\n", d->to);
}

void cli_man(FILE *to, const struct cli_group *g)
{
	struct cli_doc d = { .to = to, .is_man = true };

	man_name(&d, g);
	cli_doc_section(&d, "COMMANDS");
	if (!g)
		doc_groups(&d);
	for (unsigned i = 0; cli_commands[i]; i++)
		if (is_in_group(cli_commands[i], g))
			man_command(&d, cli_commands[i]);
	cli_doc_section(&d, "OPTIONS");
	if (!g)
		doc_general_options(&d);
	cli_doc_text(&d, "Every command takes these too:");
	for (const struct cli_option *o = cli_common_options; o->name; o++)
		doc_option(&d, o);
	if (g && g->describe)
		g->describe(&d);
	man_statuses(&d);
	man_see_also(&d, g);
}

/* --- completion --------------------------------------------------------------------------------- */

static void completion_options(FILE *to, const struct cli_option *o)
{
	for (; o && o->name; o++)
		fprintf(to, " %s", o->name);
}

/* Each word of PATH is what may follow those before it. */
static void completion_path(FILE *to, const char *path)
{
	for (size_t at = 0, n; path[at]; at += n + (path[at + n] == ' ')) {
		n = strcspn(path + at, " ");
		fprintf(to, "_viv_next['");
		fwrite(path, 1, at, to);
		fprintf(to, "']+=' ");
		fwrite(path + at, 1, n, to);
		fprintf(to, "'\n");
	}
}

/* The words that were typed, less options, are looked up in two lists: what may follow a path, and which
 * options a command has. */
void cli_completion(FILE *to)
{
	fputs("# bash completion for viv, printed by viv --print-completion\n"
	      "_viv() {\n"
	      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} path= word i\n"
	      "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	      "\t\tword=${COMP_WORDS[i]}\n"
	      "\t\t[[ -n ${_viv_next[$path$word ]+x} || -n ${_viv_options[$path$word]+x} ]] || break\n"
	      "\t\tpath+=\"$word \"\n"
	      "\tdone\n"
	      "\tif [[ $cur == -* ]]; then\n"
	      "\t\tCOMPREPLY=($(compgen -W \"${_viv_options[${path% }]}\" -- \"$cur\"))\n"
	      "\telif [[ -n ${_viv_next[$path]+x} ]]; then\n"
	      "\t\tCOMPREPLY=($(compgen -W \"${_viv_next[$path]}\" -- \"$cur\"))\n"
	      "\telse\n"
	      "\t\tCOMPREPLY=($(compgen -f -- \"$cur\"))\n"
	      "\tfi\n"
	      "}\n"
	      "declare -gA _viv_next _viv_options\n", to);
	for (unsigned i = 0; cli_commands[i]; i++) {
		completion_path(to, cli_commands[i]->path);
		fprintf(to, "_viv_options['%s']='", cli_commands[i]->path);
		completion_options(to, cli_commands[i]->options);
		completion_options(to, cli_common_options);
		fputs("'\n", to);
	}
	fputs("complete -o filenames -F _viv viv\n", to);
}
