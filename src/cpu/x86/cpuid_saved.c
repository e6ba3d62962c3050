/* SPDX-License-Identifier: Apache-2.0 */
/* cpuid_saved.c - the CPUID table of a saved machine, and whether this host can be that processor.
 *
 * A restored guest keeps the table that it booted with: its kernel has patched itself by it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "cpu/x86/cpuid.h"
#include "cpu/x86/feature.h"
#include "util/checked.h"
#include "util/err.h"

static const struct field leaf_fields[] = {
	FIELD(struct x86_cpuid_saved_leaf, leaf, 1),
	FIELD(struct x86_cpuid_saved_leaf, subleaf, 1),
	FIELD(struct x86_cpuid_saved_leaf, has_subleaf, 1),
	FIELD_ARRAY(struct x86_cpuid_saved_leaf, reg, 1),
};
static const struct state_desc leaf_desc = {
	.name = "leaf", .version = 1, .size = sizeof(struct x86_cpuid_saved_leaf),
	.n_fields = ARRAY_LEN(leaf_fields), .fields = leaf_fields,
};

static const struct field cpuid_fields[] = {
	FIELD(struct x86_cpuid_saved, n, 1),
	FIELD(struct x86_cpuid_saved, max_basic, 1),
	FIELD(struct x86_cpuid_saved, max_ext, 1),
	FIELD_SUBS(struct x86_cpuid_saved, leaf, 1, &leaf_desc),
};

static int cpuid_check(void *state, struct err *err)
{
	const struct x86_cpuid_saved *s = state;

	if (!s->n || s->n > X86_CPUID_MAX)
		return err_set(err, -EPROTO, "a CPUID table with %u leaves is impossible", s->n);
	return 0;
}

const struct state_desc x86_cpuid_desc = {
	.name = "cpuid", .version = 1, .size = sizeof(struct x86_cpuid_saved),
	.n_fields = ARRAY_LEN(cpuid_fields), .fields = cpuid_fields, .check = cpuid_check,
};

void x86_cpuid_save(struct x86_cpuid_saved *out, const struct x86_cpuid *t)
{
	*out = (struct x86_cpuid_saved){ .n = t->n, .max_basic = t->max_basic, .max_ext = t->max_ext };
	for (unsigned i = 0; i < t->n; i++) {
		const struct x86_cpuid_leaf *l = &t->leaf[i];

		out->leaf[i] = (struct x86_cpuid_saved_leaf){
			.leaf = l->leaf, .subleaf = l->subleaf, .has_subleaf = l->has_subleaf,
			.reg = { l->eax, l->ebx, l->ecx, l->edx },
		};
	}
}

void x86_cpuid_load(struct x86_cpuid *out, const struct x86_cpuid_saved *s)
{
	*out = (struct x86_cpuid){ .n = s->n, .max_basic = s->max_basic, .max_ext = s->max_ext, .is_fixed = true };
	for (unsigned i = 0; i < s->n; i++) {
		const struct x86_cpuid_saved_leaf *l = &s->leaf[i];

		out->leaf[i] = (struct x86_cpuid_leaf){
			.leaf = l->leaf, .subleaf = l->subleaf, .has_subleaf = l->has_subleaf != 0,
			.eax = l->reg[0], .ebx = l->reg[1], .ecx = l->reg[2], .edx = l->reg[3],
		};
	}
}

/* The feature called BIT of WORD; NULL: nobody has given it a name. */
static const char *feature_name(unsigned word, unsigned bit)
{
	for (const struct x86_feature_row *r = x86_feature_rows; r->name; r++) {
		if (r->word == word && r->bit == bit)
			return r->name;
	}
	return NULL;
}

static void list_add(char *list, size_t cap, unsigned word, unsigned bit)
{
	const char *name = feature_name(word, bit), *sep = *list ? ", " : "";
	size_t n = strlen(list);

	if (name)
		snprintf(list + n, cap - n, "%s%s", sep, name);
	else
		snprintf(list + n, cap - n, "%sbit %u of word %u", sep, bit, word);
}

/* Announced whatever the engine executes: the number of processors (HTT), and what AMD repeats. */
static const uint32_t always[X86_N_WORDS] = { [X86_W_1_EDX] = 1u << 28, [X86_W_80000001_EDX] = X86_AMD_REPEATED };

int x86_cpuid_check(const struct x86_cpuid *t, const struct x86_features *can, struct err *err)
{
	uint64_t xcr0 = x86_cpuid_xcr0(t) & ~can->xcr0;
	char list[320] = "";

	for (unsigned w = 0; w < X86_N_WORDS; w++) {
		for (unsigned bit = 0; bit < 32; bit++) {
			if (!((can->word[w] | always[w]) >> bit & 1) && x86_cpuid_has(t, (enum x86_cpuid_word)w, bit))
				list_add(list, sizeof(list), w, bit);
		}
	}
	if (xcr0 && !*list)
		snprintf(list, sizeof(list), "extended state 0x%llx", (unsigned long long)xcr0);
	return *list ? err_set(err, -ENOTSUP, "the saved processor has features that are missing here: %s; a machine that moves is "
				 "started with a model that all sides have, as --cpu x86-64-v2", list) : 0;
}
