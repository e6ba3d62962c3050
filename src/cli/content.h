/* SPDX-License-Identifier: Apache-2.0 */
/* content.h - what the commands about images and about volumes share. PLURAL is the kind in paths: "images". */
#ifndef CLI_CONTENT_H
#define CLI_CONTENT_H

#include <jansson.h>
#include "cli/command.h"

struct client;
struct progress;

/* Of commands that upload. */
#define CONTENT_OPTIONS \
	{ "--format", 'f', CLI_STRING, .metavar = "FORMAT", .help = "format of FILE; else its content tells" }

/* POST DOC (taken), which is called NAME, and wait until it is ready, showing how far it is. */
int content_make(struct cli *c, const char *plural, const char *name, json_t *doc, struct err *err);
/* The file of what the first argument names to the file that the second one does. */
int content_download(struct cli *c, const char *plural, struct err *err);
/* Make what the first argument names from the file that the second one does. SPEC (taken) is what else is said of it. */
int content_upload(struct cli *c, const char *plural, json_t *spec, struct err *err);

/* --- piece by piece, on a connection that is there ---------------------------------------------------- */

/* Wait until NAME is ready, telling P how far it is; its document in OUT. -EINTR: the user has had enough, and it goes on. */
int content_wait(struct client *cl, struct progress *p, const char *plural, const char *name, json_t **out, struct err *err);

/* SIZE bytes of the file FD from OFF, which become NAME. All is borrowed. */
struct content_upload {
	const char *plural, *name;
	int fd;
	uint64_t off, size;
	const char *sum, *format;       /* SHA-256 as digits; FORMAT NULL: the content tells */
	uint64_t kernel_at;             /* of an image: from OFF on; 0: it brings no kernel */
	json_t *spec, *labels;          /* what else the document says; LABELS NULL: none */
	unsigned keep_seconds;          /* for which an unfinished one is kept; 0: as the daemon likes */
	bool takes_ready;               /* an earlier attempt may have come to its end */
};
/* Make its document, unless an earlier attempt has done that for the same bytes, with the same labels. */
int content_post(struct client *cl, const struct content_upload *u, struct err *err);
/* Send what is missing, and wait until it is ready; OUT as content_wait(). */
int content_send(struct client *cl, struct progress *p, const struct content_upload *u, json_t **out, struct err *err);
/* Take it away, and wait for a while until it has gone. What cannot be deleted stays. */
void content_remove(struct client *cl, const char *plural, const char *name);

#endif
