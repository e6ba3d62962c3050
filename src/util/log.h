/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - lines for the person who runs this process, on standard error.
 *
 * error: a requested action failed; warn: odd but survivable; info: rare state changes;
 * debug: ours. A function returns an error or logs it, not both. Whatever a guest can trigger
 * goes through log_guest(), which counts everything and prints little. Any thread, locks or
 * not: a line that nobody takes is dropped, after a second if it is an error. */
#ifndef UTIL_LOG_H
#define UTIL_LOG_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Highest level that is printed; LOG_WARN at start. Main thread, before others exist. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/* Name put in front of every line ("viv-vmm: "). BORROWS name for the life of the process. */
void log_set_name(const char *name);

/* Write to FD from now on, not to standard error. Main thread, before others exist. */
void log_set_fd(int fd);

/* When the terminal is raw, lines need "\r\n". */
void log_set_raw_terminal(int is_raw);

void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same for LEN bytes of TEXT, from a signal's handler too. What is not plain ASCII becomes '?'. */
void log_text(enum log_level level, const char *text, size_t len);

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/* One kind of guest misbehaviour; static in the file that reports it. The first 3 events are
 * printed as warnings, later ones only counted. */
struct log_guest {
	const char *what; /* "uart: write to reserved register" */
	_Atomic uint64_t count;
};

#define LOG_GUEST(what_) { .what = (what_) }

void log_guest(struct log_guest *g, uint64_t value);

#endif
