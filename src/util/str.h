/* SPDX-License-Identifier: Apache-2.0 */
/* str.h - small text parsers for what people type. Any thread; nothing is kept. */
#ifndef UTIL_STR_H
#define UTIL_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/* Decimal, or hexadecimal after 0x; nothing before or after. -EINVAL, -ERANGE. */
int str_parse_u64(uint64_t *out, const char *text, struct err *err);

/* A number of bytes with an optional suffix K, M, G or T (powers of 1024, either case, an
 * optional "iB" or "B" after it): "512M", "4GiB", "1048576". */
int str_parse_size(uint64_t *out, const char *text, struct err *err);

/* "on", "off", "yes", "no", "true", "false". */
int str_parse_bool(bool *out, const char *text, struct err *err);

/* The next element of a comma-separated list "path=a,format=raw". KEY and VALUE get the two
 * sides of the first '='; without one KEY is the whole element and *HAS_VALUE false. ",," in a
 * value stands for one comma. Advances *TEXT. 1: one was read; 0: the list is over; -EINVAL:
 * an empty element or one longer than the buffers. */
int str_next_pair(const char **text, char *key, size_t key_cap, char *value, size_t value_cap,
		  bool *has_value, struct err *err);

/* Edits between A and B (insert, delete, replace, swap of neighbours), at most STR_MAX_DISTANCE;
 * for "did you mean". */
enum { STR_MAX_DISTANCE = 99 };
unsigned str_distance(const char *a, const char *b);

/* Bytes of the character at TEXT if a terminal shows it and does not obey it; 0: it is a control character, no UTF-8 (RFC
 * 3629), or the end. Controls are also those from U+0080 to U+009F: U+009B begins a command as ESC and '[' do. */
unsigned str_shown_len(const char *text);
/* Each byte that str_shown_len() has nothing good to say of becomes '?'. */
void str_make_harmless(char *text);

#endif
