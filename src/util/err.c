/* SPDX-License-Identifier: Apache-2.0 */
#include "util/err.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *err, int code, const char *fmt, ...)
{
	char msg[sizeof(err->msg)];
	va_list ap;

	assert(code < 0);
	if (!err)
		return code;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	err->code = code;
	strcpy(err->msg, msg);
	return code;
}

int err_wrap(struct err *err, int code, const char *fmt, ...)
{
	char inner[sizeof(err->msg)];
	va_list ap;
	int n;

	assert(code < 0);
	if (!err)
		return code;
	memcpy(inner, err->msg, sizeof(inner));
	if (!err->code)
		snprintf(inner, sizeof(inner), "%s", strerror(-code));
	err->code = code;
	va_start(ap, fmt);
	n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n + 2 < sizeof(err->msg)) {
		memcpy(err->msg + n, ": ", 2);
		size_t room = sizeof(err->msg) - (size_t)n - 3, len = strnlen(inner, sizeof(inner) - 1);
		if (len > room)
			len = room;
		memcpy(err->msg + n + 2, inner, len);
		err->msg[(size_t)n + 2 + len] = '\0';
	}
	return code;
}
