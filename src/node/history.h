/* SPDX-License-Identifier: Apache-2.0 */
/* history.h - what something has used, for a month, in bounded space.
 *
 * A file has three rings of averages: every 5 seconds for an hour, every minute for a day, every quarter of an hour for
 * 31 days. All of little-endian 32-bit words: "vivH", version 1, 0, 0, then the slots of the rings one after the other, each
 * the number of its step since 1970, the seconds that were measured of it, and an average for each field as IEEE 754 single
 * precision. Where a slot lies follows from the time, so nothing is searched for, a slot that was torn by a crash is one
 * wrong value at most, and what an earlier round has left does not have the number that is looked for. Files have holes
 * where nothing was measured. Any thread, one at a time per file. */
#ifndef NODE_HISTORY_H
#define NODE_HISTORY_H

#include <stdint.h>
#include "util/json.h"

struct err;

/* Rates are per second. */
enum usage_field {
	USAGE_CPU,              /* processors' time per time: 1.5 is one and a half processors */
	USAGE_MEMORY,           /* bytes of the host's memory */
	USAGE_READ, USAGE_WRITTEN,      /* bytes from and to disks */
	USAGE_RECEIVED, USAGE_SENT,     /* bytes from and to networks */
	USAGE_STORAGE,          /* bytes of the host's storage */
	USAGE_FIELDS,
};

struct usage {
	double v[USAGE_FIELDS];
};

/* "cpu", "memory", ...: in documents. */
const char *usage_name(enum usage_field f);
/* U as a document. New reference; NULL: out of memory. */
json_t *usage_json(const struct usage *u);

enum { HISTORY_SPAN_MAX_S = 31 * 86400, HISTORY_POINTS_MAX = 4096 };

/* In the SECONDS before NOW (Unix time) it was U. The file is made when it is not there, and begun anew when it is none. */
int history_add(const char *path, int64_t now, double seconds, const struct usage *u, struct err *err);

/* The last SPAN seconds in at most POINTS values per field, as fine as is known:
 * {"from": Unix time of the first value's begin, "step": seconds, "fields": {"cpu": [0.5, null, ...], ...}}. null: nothing is
 * known of that time. New reference in OUT. No file: nothing is known at all. -EINVAL: SPAN or POINTS is out of bounds. */
int history_read(json_t **out, const char *path, int64_t now, unsigned span, unsigned points, struct err *err);

#endif
