/* SPDX-License-Identifier: Apache-2.0 */
/* CPU models: names, changes, refusals, and that nothing is announced that was not asked for. */
#include "cpu/x86/model.h"

#include <errno.h>
#include <string.h>
#include "cpu/x86/feature.h"
#include "test.h"
#include "util/err.h"

/* An engine that needs nothing of the host, so that tests are the same everywhere. */
static struct x86_features engine_without(const char *name)
{
	struct x86_features f = x86_features_interp;

	if (name)
		x86_features_put(&f, x86_feature_find(name), false);
	return f;
}

static bool has(const struct x86_features *f, const char *name)
{
	return x86_features_has(f, x86_feature_find(name));
}

static void must_refuse(const char *spec, const struct x86_features *engine, int code, const char *says)
{
	struct x86_model m;
	struct err err = ERR_INIT;

	CHECK_EQ(x86_model_make(&m, spec, engine, "test", &err), code);
	CHECK_HAS(err.msg, says);
}

TEST(every_name_is_found_whatever_its_dashes_and_stands_once)
{
	for (const struct x86_feature_row *r = x86_feature_rows; r->name; r++) {
		CHECK(x86_feature_find(r->name) == r);
		for (const struct x86_feature_row *o = x86_feature_rows; o != r; o++)
			CHECK(o->word != r->word || o->bit != r->bit);
		/* what is needed stands before it, so that one pass closes a set */
		CHECK(!r->needs || (x86_feature_find(r->needs) && x86_feature_find(r->needs) < r));
		CHECK(!r->needs_too || (x86_feature_find(r->needs_too) && x86_feature_find(r->needs_too) < r));
	}
	CHECK(x86_feature_find("sse4.2") == x86_feature_find("sse4_2"));
	CHECK(!x86_feature_find("sse4"));
	CHECK(!x86_feature_find(""));
}

TEST(every_bit_that_an_engine_may_announce_has_a_name)
{
	const struct x86_features *const sets[] = { &x86_features_interp, &x86_features_bt, &x86_features_allowed };

	for (unsigned i = 0; i < 3; i++) {
		struct x86_features rest = *sets[i];

		if (i == 2)             /* AMD repeats leaf 1 there */
			rest.word[X86_W_80000001_EDX] &= ~0x0183f3ffu;
		for (const struct x86_feature_row *r = x86_feature_rows; r->name; r++)
			x86_features_put(&rest, r, false);
		for (unsigned w = 0; w < X86_N_WORDS; w++)
			CHECK_EQ(rest.word[w], 0);
	}
}

TEST(named_models_are_the_psabi_levels_and_no_more)
{
	struct x86_features engine = engine_without(NULL);
	struct x86_model m;

	CHECK_EQ(x86_model_make(&m, "x86-64-v1", &engine, "test", NULL), 0);
	CHECK(has(&m.features, "sse2") && has(&m.features, "lm") && has(&m.features, "x2apic"));
	CHECK(!has(&m.features, "sse3") && !has(&m.features, "cx16") && !has(&m.features, "smep"));
	CHECK_EQ(m.features.xcr0, 0);
	CHECK_STR(m.name, "x86-64-v1");
	CHECK(!m.is_host);
	CHECK_EQ(x86_model_make(&m, "x86-64-v2", &engine, "test", NULL), 0);
	CHECK(has(&m.features, "sse4_2") && has(&m.features, "popcnt") && has(&m.features, "lahf_lm"));
	CHECK(!has(&m.features, "xsave") && !has(&m.features, "aes"));
	if (!(x86_host_features() & X86_F_BIT(AVX2)))
		SKIP("this host has no AVX2");
	CHECK_EQ(x86_model_make(&m, "x86-64-v3", &engine, "test", NULL), 0);
	CHECK(has(&m.features, "avx2") && has(&m.features, "fma") && has(&m.features, "movbe"));
	CHECK_EQ(m.features.xcr0, 7);
}

TEST(host_is_what_the_engine_and_the_host_can)
{
	struct x86_features engine = engine_without("smap"), usable;
	struct x86_model m;

	x86_features_usable(&usable, &engine);
	CHECK_EQ(x86_model_make(&m, "host", &engine, "test", NULL), 0);
	CHECK_MEM(&m.features, &usable, sizeof(usable));
	CHECK(m.is_host && !has(&m.features, "smap"));
	for (unsigned w = 0; w < X86_N_WORDS; w++)
		CHECK_EQ(m.required.word[w], 0);
}

TEST(changes_turn_features_on_and_off_with_what_depends_on_them)
{
	struct x86_features engine = engine_without(NULL);
	struct x86_model m;

	CHECK_EQ(x86_model_make(&m, "x86-64-v2,smep=on,umip,sse4.1=off", &engine, "test", NULL), 0);
	CHECK(has(&m.features, "smep") && has(&m.features, "umip") && has(&m.required, "umip"));
	CHECK(!has(&m.features, "sse4_1") && !has(&m.features, "sse4_2") && has(&m.features, "ssse3"));
	CHECK_EQ(x86_model_make(&m, "host,xsave=off,x2apic=off", &engine, "test", NULL), 0);
	CHECK(!has(&m.features, "avx") && !has(&m.features, "fma") && !has(&m.features, "xsaveopt"));
	CHECK(!has(&m.features, "x2apic"));
	CHECK_EQ(m.features.xcr0, 0);
	/* the last word counts */
	CHECK_EQ(x86_model_make(&m, "x86-64-v1,sse3=on,sse3=off", &engine, "test", NULL), 0);
	CHECK(!has(&m.features, "sse3"));
}

TEST(what_the_engine_cannot_execute_is_refused_with_both_names)
{
	struct x86_features engine = engine_without("la57");

	must_refuse("host,la57=on", &engine, -ENOTSUP, "CPU model 'host' has 'la57', which engine 'test' cannot execute");
	must_refuse("x86-64-v4", &engine, -ENOTSUP, "CPU model 'x86-64-v4' has 'avx512f', which engine 'test' cannot");
}

TEST(mistakes_get_a_sentence)
{
	struct x86_features engine = engine_without(NULL);
	struct err err = ERR_INIT;

	must_refuse("pentium", &engine, -EINVAL, "no CPU model 'pentium'; there are: host, base, x86-64-v1, x86-64-v2, x86-64-v3");
	must_refuse("aes=on", &engine, -EINVAL, "no CPU model 'aes'");
	must_refuse("", &engine, -EINVAL, "no CPU model ''");
	must_refuse("base,ase", &engine, -EINVAL, "unknown CPU feature 'ase'; did you mean");
	must_refuse("base,flux-capacitor", &engine, -EINVAL, "--list-cpus prints");
	must_refuse("base,aes=maybe", &engine, -EINVAL, "aes: 'maybe' is neither");
	must_refuse("host,fpu=off", &engine, -EINVAL, "'fpu' cannot be turned off");
	must_refuse("host,avx=off,avx2", &engine, -EINVAL, "'avx2' needs 'avx', which is turned off");
	must_refuse("base,invpcid", &engine, -EINVAL, "'invpcid' needs 'pcid', which CPU model 'base' does not have");
	must_refuse("base,", &engine, -EINVAL, "last comma");
	CHECK_EQ(x86_model_check("x86-64-v4,la57", &err), 0);   /* judged without an engine */
	CHECK_EQ(x86_model_check("x86-64-v4,la75", &err), -EINVAL);
}

TEST(a_saved_model_fits_where_its_features_are)
{
	struct x86_features engine = engine_without(NULL), lesser = engine_without("rdpid");
	struct x86_model m, back = { .name = "x" };
	uint8_t buf[1024];
	struct err err = ERR_INIT;

	CHECK_EQ(x86_model_make(&m, "x86-64-v2,rdpid", &engine, "test", NULL), 0);
	long n = fields_save(&x86_model_desc, &m, buf, sizeof(buf));
	CHECK(n > 0);
	CHECK_EQ(fields_load(&x86_model_desc, &back, buf, (size_t)n, NULL), n);
	CHECK_STR(back.name, "x86-64-v2");
	CHECK_MEM(&back.features, &m.features, sizeof(m.features));
	CHECK_MEM(&back.required, &m.required, sizeof(m.required));
	CHECK_EQ(x86_model_fits(&back, &engine, "test", NULL), 0);
	CHECK_EQ(x86_model_fits(&back, &lesser, "lesser", &err), -ENOTSUP);
	CHECK_HAS(err.msg, "'rdpid', which engine 'lesser' cannot execute");
}

TEST(cpuid_announces_the_model_and_names_it)
{
	struct x86_features engine = engine_without(NULL);
	struct x86_cpuid t;
	struct x86_model m;
	uint32_t r[4];
	char brand[49] = "";

	CHECK_EQ(x86_model_make(&m, "x86-64-v2,aes=off,movbe=on", &engine, "test", NULL), 0);
	x86_cpuid_build(&t, &(struct x86_cpuid_params){
		.n_vcpus = 2, .engine = &engine, .model = &m, .tsc_hz = 2000000000, .phys_bits = 40 });
	CHECK(x86_cpuid_has(&t, X86_W_1_ECX, 20) && x86_cpuid_has(&t, X86_W_1_ECX, 22));
	CHECK(!x86_cpuid_has(&t, X86_W_1_ECX, 25) && !x86_cpuid_has(&t, X86_W_1_ECX, 26));
	CHECK(x86_cpuid_has(&t, X86_W_1_EDX, 28));
	CHECK_EQ(x86_cpuid_xcr0(&t), 0);
	for (unsigned i = 0; i < 3; i++) {
		x86_cpuid_get(&t, 0x80000002 + i, 0, 0, 0, 0, r);
		memcpy(brand + 16 * i, r, 16);
	}
	CHECK_STR(brand, "Vivarium x86-64-v2 processor");
	CHECK_MEM(&t.required, &m.required, sizeof(m.required));
}

TEST(what_is_not_announced_is_listed_for_the_engine_to_refuse)
{
	struct x86_features engine = engine_without(NULL);
	struct x86_cpuid t;
	struct x86_model m;

	CHECK_EQ(x86_model_make(&m, "host,rdtscp=off,invpcid=off,xsave=off", &engine, "test", NULL), 0);
	x86_cpuid_build(&t, &(struct x86_cpuid_params){
		.n_vcpus = 1, .engine = &engine, .model = &m, .tsc_hz = 2000000000, .phys_bits = 40 });
	uint64_t lacks = x86_cpuid_lacks(&t);

	CHECK(lacks & X86_F_BIT(RDTSCP) && lacks & X86_F_BIT(INVPCID) && lacks & X86_F_BIT(XSAVE));
	CHECK(lacks & X86_F_BIT(AVX2));                 /* it went with XSAVE */
	CHECK(!(lacks & (X86_F_BIT(RDPID) | X86_F_BIT(SSE3) | X86_F_BIT(CX16))));
}

TEST(an_amd_processor_has_amds_leaves_and_ids_that_agree)
{
	struct x86_features engine = engine_without(NULL);
	struct err err = ERR_INIT;
	struct x86_cpuid t;
	struct x86_model m;
	uint32_t r[4];

	CHECK_EQ(x86_model_make(&m, "base,vendor=amd", &engine, "test", NULL), 0);
	x86_cpuid_build(&t, &(struct x86_cpuid_params){
		.n_vcpus = 6, .engine = &engine, .model = &m, .tsc_hz = 2000000000, .phys_bits = 40 });
	CHECK(x86_cpuid_is_amd(&t));
	x86_cpuid_get(&t, 0, 0, 0, 0, 0, r);
	CHECK_MEM((char *)&r[1], "Auth", 4);
	CHECK_MEM((char *)&r[3], "enti", 4);
	CHECK_MEM((char *)&r[2], "cAMD", 4);
	x86_cpuid_get(&t, 0x80000001, 0, 0, 0, 0, r);
	CHECK_EQ(r[3] & 0x0183f3ff, m.features.word[X86_W_1_EDX] & 0x0183f3ff);
	for (uint32_t id = 0; id < 6; id++) {
		x86_cpuid_get(&t, 0x8000001e, 0, id, 0, 0, r);
		CHECK_EQ(r[0], id);
		CHECK_EQ(r[1] & 0xff, id);
		x86_cpuid_get(&t, 0xb, 1, id, 0, 0, r);
		CHECK_EQ(r[3], id);
	}
	x86_cpuid_get(&t, 0x80000008, 0, 0, 0, 0, r);
	CHECK_EQ(r[2], 3u << 12 | 5);                   /* three bits of APIC id, six processors */
	for (uint32_t i = 0; i < 4; i++) {
		x86_cpuid_get(&t, 0x8000001d, i, 0, 0, 0, r);
		CHECK(r[0] & 0x1f);
		CHECK_EQ(r[0] >> 14 & 0xfff, i == 3 ? 7 : 0);
	}
	x86_cpuid_get(&t, 0x8000001d, 4, 0, 0, 0, r);
	CHECK_EQ(r[0] & 0x1f, 0);
	must_refuse("base,vendor=via", &engine, -EINVAL, "vendor: 'via' is none of: intel amd");
	CHECK_EQ(x86_model_make(&m, "host,vendor=amd", &x86_features_allowed, "kvm", &err), -ENOTSUP);
	CHECK_HAS(err.msg, "engine 'kvm' shows the vendor");
}
