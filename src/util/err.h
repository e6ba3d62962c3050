/* SPDX-License-Identifier: Apache-2.0 */
/* err.h - an error is a negative errno for the program and one sentence for the person.
 *
 * Functions that a user's request can reach return 0 (or a useful positive) on success and
 * -errno on failure, and take `struct err *` last (NULL is allowed). The struct lives on the
 * caller's stack, is set once where the reason is known, wrapped with the object's name on
 * the way up, printed once at the edge, and never touched on success. A sentence says what
 * failed, on what, why and what to do; lower case, no full stop, objects in single quotes. */
#ifndef UTIL_ERR_H
#define UTIL_ERR_H

struct err {
	int code;       /* negative errno; 0: not set */
	char msg[508];  /* the sentence, NUL-terminated, cut when too long */
};

#define ERR_INIT { 0, "" }

/* Set *ERR (when not NULL) to CODE and the formatted sentence. Returns CODE, so that
 * `return err_set(err, -EINVAL, "...")` is one line. CODE must be negative. What is formatted may be the
 * sentence that is there: `err_set(err, -EINVAL, "%s", err->msg)`. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Put the formatted text and ": " before the sentence that is there. CODE replaces nothing:
 * it is only returned. Setting is done when *ERR carries no sentence yet. Returns CODE. */
int err_wrap(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
