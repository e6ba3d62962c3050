/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/output.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include "util/checked.h"
#include "util/err.h"
#include "util/str.h"

int output_json(json_t *doc, struct err *err)
{
	if (!doc)
		return err_set(err, -ENOMEM, "out of memory");
	int r = json_dumpf(doc, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);

	json_decref(doc);
	if (!r && (putchar('\n') == EOF || fflush(stdout) == EOF))
		r = -1;
	return r < 0 ? err_set(err, -EIO, "cannot write the result to standard output: %s", strerror(errno)) : 0;
}

void output_json_error(int status, int code, const char *message)
{
	const char *name = strerrorname_np(code < 0 ? -code : EINVAL);

	output_json(json_pack("{s:{s:i, s:s, s:s}}", "error", "status", status, "code", name ? name : "EIO",
			      "message", message), NULL);
}

const char *output_size(char buf[OUTPUT_SIZE_LEN], uint64_t bytes)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = (double)bytes / 1024;
	size_t u = 0;

	if (bytes < 1024) {
		snprintf(buf, OUTPUT_SIZE_LEN, "%" PRIu64 " bytes", bytes);
		return buf;
	}
	for (; v >= 1024 && u + 1 < ARRAY_LEN(units); u++)
		v /= 1024;
	snprintf(buf, OUTPUT_SIZE_LEN, "%.3g %s", v, units[u]);
	if (v >= 999.5)                 /* "1e+03" */
		snprintf(buf, OUTPUT_SIZE_LEN, "%.0f %s", v, units[u]);
	return buf;
}

void output_text(FILE *to, const char *text)
{
	for (unsigned len; *text; text += len ? len : 1) {
		len = str_shown_len(text);
		fwrite(len ? text : "?", 1, len ? len : 1, to);
	}
}
