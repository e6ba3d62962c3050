/* SPDX-License-Identifier: Apache-2.0 */
#include "util/log.h"

#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "util/checked.h"
#include "util/str.h"

/* Process-wide by nature: there is one standard error. Written by main() before threads. */
static enum log_level max_level = LOG_WARN;
static const char *process_name = "viv";
static int raw_terminal;
static int log_fd = STDERR_FILENO;

static const char *const level_names[] = { "error", "warning", "info", "debug" };

enum { GUEST_LINES = 3, ERROR_WAIT_MS = 1000 };

void log_set_level(enum log_level level)
{
	max_level = level;
}

enum log_level log_get_level(void)
{
	return max_level;
}

void log_set_name(const char *name)
{
	process_name = name;
}

void log_set_fd(int fd)
{
	log_fd = fd;
}

void log_set_raw_terminal(int is_raw)
{
	raw_terminal = is_raw;
}

/* LEN bytes of BUF, which has room for two more. */
static void log_write(enum log_level level, char *buf, size_t len)
{
	struct pollfd p = { .fd = log_fd, .events = POLLOUT };

	if (raw_terminal)
		buf[len++] = '\r';
	buf[len++] = '\n';
	if (poll(&p, 1, level == LOG_ERROR ? ERROR_WAIT_MS : 0) == 0)
		return;
	/* One write keeps lines of several threads whole. Nobody is left to tell of a failure. */
	if (write(log_fd, buf, len) < 0)
		return;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char buf[1024];
	va_list ap;
	int n, m;

	if (level > max_level)
		return;
	n = snprintf(buf, sizeof(buf) - 3, "%s: %s: ", process_name, level_names[level]);
	if (n < 0)
		return;
	va_start(ap, fmt);
	m = vsnprintf(buf + n, sizeof(buf) - 3 - (size_t)n, fmt, ap);
	va_end(ap);
	if (m < 0)
		return;
	/* What somebody else has written must not look like a line of its own, or move the cursor. */
	str_make_harmless(buf);
	log_write(level, buf, strlen(buf));
}

void log_text(enum log_level level, const char *text, size_t len)
{
	const char *part[] = { process_name, ": ", level_names[level], ": " };
	char buf[1024];
	size_t n = 0, room = sizeof(buf) - 2;

	if (level > max_level)
		return;
	for (size_t i = 0; i < ARRAY_LEN(part); i++)
		for (const char *c = part[i]; *c && n < room; c++)
			buf[n++] = *c;
	for (size_t i = 0; i < len && n < room; i++)
		buf[n++] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
	log_write(level, buf, n);
}

void log_guest(struct log_guest *g, uint64_t value)
{
	uint64_t n = atomic_fetch_add_explicit(&g->count, 1, memory_order_relaxed);

	if (n < GUEST_LINES)
		log_warn("guest: %s (0x%" PRIx64 ")%s", g->what, value,
			 n == GUEST_LINES - 1 ? "; more of these are only counted" : "");
}
