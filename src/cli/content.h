/* SPDX-License-Identifier: Apache-2.0 */
/* content.h - what the commands about images and about volumes share. PLURAL is the kind in paths: "images". */
#ifndef CLI_CONTENT_H
#define CLI_CONTENT_H

#include <jansson.h>
#include "cli/command.h"

/* Of commands that upload. */
#define CONTENT_OPTIONS \
	{ "--format", 'f', CLI_STRING, .metavar = "FORMAT", .help = "format of FILE; else its content tells" }

/* POST DOC (taken), which is called NAME, and wait until it is ready, showing how far it is. */
int content_make(struct cli *c, const char *plural, const char *name, json_t *doc, struct err *err);
/* The file of what the first argument names to the file that the second one does. */
int content_download(struct cli *c, const char *plural, struct err *err);
/* Make what the first argument names from the file that the second one does. SPEC (taken) is what else is said of it. */
int content_upload(struct cli *c, const char *plural, json_t *spec, struct err *err);

#endif
