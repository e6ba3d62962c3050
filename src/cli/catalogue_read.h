/* SPDX-License-Identifier: Apache-2.0 */
/* catalogue_read.h - read what a publisher offers from its servers, and keep it: CACHE/NAME.json. Who comes while another reads waits for that.
 * Main thread. */
#ifndef CLI_CATALOGUE_READ_H
#define CLI_CATALOGUE_READ_H

#include "cli/fetch.h"
#include "util/json.h"

struct catalogue_reader {
	const char *path;               /* of the description */
	const char *cache;              /* a directory */
	struct fetch_spec fetch;        /* CA, GUARD and PROGRESS: from whom, and who is told */
	uint64_t max_age_s;             /* what was kept for at most so long is taken as it is */
};

/* OUT as docs/formats/catalogue.md has it, a new reference. When no server can be reached, what was kept, however old, in which WHY says why; else
 * -EAGAIN. -EKEYREJECTED: a signature is not good; -ENOENT: there is no keyring, or nothing for this kind of processor; -EPROTO, -EFBIG: what a publisher says is
 * not what it should be. */
int catalogue_read(const struct catalogue_reader *r, json_t **out, struct err *why, struct err *err);
/* DOC to the file PATH, durably. */
int catalogue_keep(const json_t *doc, const char *path, struct err *err);

#endif
