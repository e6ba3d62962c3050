/* SPDX-License-Identifier: Apache-2.0 */
/* feature.h - the names of CPU features, and arithmetic on sets of them.
 *
 * One row per feature that CPUID may announce: its name, as users write it and Linux shows it, its
 * place, and what it is nothing without. Any thread. Intel SDM vol. 2, CPUID. */
#ifndef CPU_X86_FEATURE_H
#define CPU_X86_FEATURE_H

#include <stdbool.h>
#include <stdio.h>

#include "cpu/x86/cpuid.h"

struct x86_feature_row {
	const char *name;               /* "sse4_2" */
	uint8_t word, bit;              /* enum x86_cpuid_word */
	bool is_fixed;                  /* every x86-64 processor has it: cannot be turned off */
	const char *needs, *needs_too;  /* names of features; NULL: none */
};

/* Ends with a row without a name. */
extern const struct x86_feature_row x86_feature_rows[];

/* The row called NAME, in which '-', '.' and '_' are the same; NULL: there is none. */
const struct x86_feature_row *x86_feature_find(const char *name);
/* The name most like NAME, or NULL. */
const char *x86_feature_suggest(const char *name);

static inline bool x86_features_has(const struct x86_features *f, const struct x86_feature_row *r)
{
	return f->word[r->word] >> r->bit & 1;
}

void x86_features_put(struct x86_features *f, const struct x86_feature_row *r, bool is_on);

/* The first feature of WANT that HAVE lacks, as a row; NULL: HAVE has all. Bits without a row are looked
 * at as well and give a row called "unnamed feature". */
const struct x86_feature_row *x86_features_missing(const struct x86_features *have, const struct x86_features *want);

/* Take out what lacks something that it needs, and fit XCR0 to the features. */
void x86_features_close(struct x86_features *f);

#endif
