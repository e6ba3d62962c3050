/* SPDX-License-Identifier: Apache-2.0 */
/* audit_files.h - the files of an audit log, as audit.c writes and audit_read.c reads them. Any thread. */
#ifndef NODE_AUDIT_FILES_H
#define NODE_AUDIT_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "node/audit.h"

struct audit_lines;

enum { AUDIT_PATH_MAX = 512 };

/* Of the file whose first record has number FIRST. */
void audit_path(char path[AUDIT_PATH_MAX], const char *dir, int64_t first);
/* The number of the newest file; unchanged when there is none. */
int audit_newest(const char *dir, int64_t *first, struct err *err);
/* The last record in the newest file older than FIRST; unchanged when there is none. */
int audit_last_of_older(const char *dir, int64_t first, struct audit_head *out, struct err *err);
/* The last record of the file at PATH, unchanged when it has none, and how many bytes of whole lines it has. Read from its end:
 * it takes as long for a short file as for a long one. */
int audit_last(const char *path, struct audit_head *out, off_t *whole, struct err *err);

/* Whole lines, one after the other. */
int audit_lines_open(struct audit_lines **out, const char *path, struct err *err);
/* Without its end; until the next call. NULL: there is no further one. */
const char *audit_lines_next(struct audit_lines *l, size_t *len);
void audit_lines_close(struct audit_lines *l);
DEFINE_AUTO(struct audit_lines *, audit_lines_close)

struct audit_record {
	struct audit_head head;
	char prev[SECRET_HASH_LEN + 1];
	bool is_hash_right;
};
/* False: LINE is no record. */
bool audit_parse(struct audit_record *out, const char *line, size_t len);

#endif
