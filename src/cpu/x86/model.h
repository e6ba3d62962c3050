/* SPDX-License-Identifier: Apache-2.0 */
/* model.h - named CPU models: what the processors of a machine announce, as plain data.
 *
 * "host" is all that the engine and the host can. The others are sets that are the same everywhere: a
 * machine that was given one finds it on any host where it starts at all. Main thread. */
#ifndef CPU_X86_MODEL_H
#define CPU_X86_MODEL_H

#include <stdbool.h>
#include <stdio.h>

#include "cpu/x86/cpuid.h"
#include "util/fields.h"

struct err;

/* Everything that a saved machine must find again; x86_model_fits() tells whether it does. */
struct x86_model {
	char name[16];                  /* "x86-64-v3"; a row of the table of models */
	struct x86_features features;   /* what is announced; HTT follows from the number of processors */
	struct x86_features required;   /* of them, what was asked for by name: never left out silently */
	uint8_t is_host;                /* named "host": the brand string is a neutral one, or the processor's */
	uint8_t is_amd;                 /* engines in software: calls itself AMD's, SYSCALL in compatibility mode */
	uint8_t reserved[6];
};
extern const struct state_desc x86_model_desc;

/* SPEC is a model's name and changes, "x86-64-v3,aes=off,smep=on" ("smep" alone: on), and "vendor=intel" or
 * "vendor=amd". Judges names and syntax, not whether an engine can do it. -EINVAL with a sentence. */
int x86_model_check(const char *spec, struct err *err);

/* Make the model SPEC for ENGINE (its ops' features) called ENGINE_NAME. -EINVAL as above; -ENOTSUP when the
 * engine or this host's processor lacks something that SPEC asks for, which the sentence names. */
int x86_model_make(struct x86_model *out, const char *spec, const struct x86_features *engine,
		   const char *engine_name, struct err *err);

/* Can a machine that has been given MODEL go on with ENGINE here? 0, or -ENOTSUP and what is missing. */
int x86_model_fits(const struct x86_model *model, const struct x86_features *engine, const char *engine_name,
		   struct err *err);

/* Models, what they consist of, and the names of all features, for people. */
void x86_model_list(FILE *to);

#endif
