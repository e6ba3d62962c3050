/* SPDX-License-Identifier: Apache-2.0 */
/* catalogue_priv.h - what the files about catalogues share. */
#ifndef NODE_CATALOGUE_PRIV_H
#define NODE_CATALOGUE_PRIV_H

#include <stdbool.h>

/* Letters, digits, '.', '_', '-', and not too many: a version, or another name of one. */
bool catalogue_is_word(const char *s);

#endif
