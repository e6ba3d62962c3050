/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in the place of util/log.c: every line is formatted and nothing is printed. */
#include "util/log.h"

#include <stdarg.h>
#include <stdio.h>

void log_set_level(enum log_level level) {}
enum log_level log_get_level(void) { return LOG_DEBUG; }
void log_set_name(const char *name) {}
void log_set_fd(int fd) {}
void log_set_raw_terminal(int is_raw) {}
void log_text(enum log_level level, const char *text, size_t len) {}

void log_line(enum log_level level, const char *fmt, ...)
{
	char buf[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
}

void log_guest(struct log_guest *g, uint64_t value)
{
	atomic_fetch_add_explicit(&g->count, 1, memory_order_relaxed);
}
