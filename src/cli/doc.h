/* SPDX-License-Identifier: Apache-2.0 */
/* doc.h - help on a terminal and pages of the manual from the same tables. */
#ifndef CLI_DOC_H
#define CLI_DOC_H

#include <stdbool.h>
#include <stdio.h>

struct cli_command;
struct cli_group;

/* Where text goes, and as what: roff (groff_man(7)) or plain. */
struct cli_doc {
	FILE *to;
	bool is_man;
};

/* What groups add to their page (cli_group.describe). */
void cli_doc_section(struct cli_doc *d, const char *title);
void cli_doc_text(struct cli_doc *d, const char *sentences);
/* NAME in bold, VALUE (may be "") in italics, then HELP; DEF NULL: no default. */
void cli_doc_entry(struct cli_doc *d, const char *name, const char *value, const char *help, const char *def);

/* `viv --help`, `viv GROUP --help`, `viv COMMAND --help`. */
void cli_help_all(FILE *to);
void cli_help_group(FILE *to, const struct cli_group *g);
void cli_help_command(FILE *to, const struct cli_command *cmd);

/* The pages viv(1) (G NULL) and viv-GROUP(1). */
void cli_man(FILE *to, const struct cli_group *g);
/* A completion script for bash. */
void cli_completion(FILE *to);

#endif
