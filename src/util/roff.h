/* SPDX-License-Identifier: Apache-2.0 */
/* roff.h - text in pages of the manual (groff_man(7)). Any thread. */
#ifndef UTIL_ROFF_H
#define UTIL_ROFF_H

#include <stdbool.h>
#include <stdio.h>

/* TEXT in which the minus of options can be copied from the page: all of a word that begins with one, and all of
 * everything when IS_CODE. Nothing in it is taken for a request or an escape. */
void roff_put(FILE *to, const char *text, bool is_code);

#endif
