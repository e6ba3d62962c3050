/* SPDX-License-Identifier: Apache-2.0 */
/* The CPUID table: what guests depend on, and what an engine must not be promised. */
#include "cpu/x86/cpuid.h"

#include "cpu/x86/state.h"
#include "test.h"

static struct x86_cpuid table;

static void build(unsigned n, uint64_t tsc_hz)
{
	const struct x86_cpuid_params p = {
		.n_vcpus = n, .engine = &x86_features_interp, .tsc_hz = tsc_hz, .phys_bits = 40, .has_kvmclock = true,
	};

	x86_cpuid_build(&table, &p);
}

static void get(uint32_t leaf, uint32_t sub, uint32_t id, uint64_t cr4, uint64_t xcr0, uint32_t r[4])
{
	x86_cpuid_get(&table, leaf, sub, id, cr4, xcr0, r);
}

TEST(software_engines_show_genuine_intel_family_6)
{
	uint32_t r[4];

	build(1, 2500000000);
	get(0, 0, 0, 0, 1, r);
	CHECK_EQ(r[0], 0x1f);
	CHECK_MEM((char *)&r[1], "Genu", 4);
	CHECK_MEM((char *)&r[3], "ineI", 4);
	CHECK_MEM((char *)&r[2], "ntel", 4);
	get(1, 0, 0, 0, 1, r);
	CHECK_EQ((r[0] >> 8) & 0xf, 6);
}

TEST(instructions_that_the_host_runs_are_announced_when_the_host_has_them)
{
	static const struct { uint8_t feature; enum x86_cpuid_word w; uint8_t bit; } bits[] = {
		{ X86_F_PCLMUL, X86_W_1_ECX, 1 }, { X86_F_FMA, X86_W_1_ECX, 12 }, { X86_F_POPCNT, X86_W_1_ECX, 23 },
		{ X86_F_AES, X86_W_1_ECX, 25 }, { X86_F_AVX, X86_W_1_ECX, 28 }, { X86_F_F16C, X86_W_1_ECX, 29 },
		{ X86_F_BMI1, X86_W_7_EBX, 3 }, { X86_F_AVX2, X86_W_7_EBX, 5 }, { X86_F_BMI2, X86_W_7_EBX, 8 },
		{ X86_F_SHA, X86_W_7_EBX, 29 }, { X86_F_VAES, X86_W_7_ECX, 9 }, { X86_F_VPCLMUL, X86_W_7_ECX, 10 },
		{ X86_F_LZCNT, X86_W_80000001_ECX, 5 },
	};
	uint64_t host = x86_host_features();

	build(1, 2500000000);
	for (unsigned i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
		CHECK_EQ(x86_cpuid_has(&table, bits[i].w, bits[i].bit), host >> bits[i].feature & 1);
	CHECK_EQ(x86_cpuid_xcr0(&table), host >> X86_F_AVX & 1 ? 7 : 3);
}

TEST(features_that_need_ymm_registers_come_with_avx_only)
{
	uint64_t host = x86_host_features();
	uint64_t ymm = X86_F_BIT(AVX2) | X86_F_BIT(FMA) | X86_F_BIT(F16C) | X86_F_BIT(VAES) | X86_F_BIT(VPCLMUL);

	CHECK(host & X86_F_BIT(AVX) || !(host & ymm));
	CHECK(host & X86_F_BIT(SSE2));
}

TEST(x86_64_v2_is_complete)
{
	static const uint8_t ecx[] = { 0, 9, 13, 19, 20, 23 };

	build(1, 2500000000);
	for (unsigned i = 0; i < sizeof(ecx); i++)
		CHECK(x86_cpuid_has(&table, X86_W_1_ECX, ecx[i]));
	CHECK(x86_cpuid_has(&table, X86_W_80000001_ECX, 0));
}

TEST(osxsave_and_ospke_follow_cr4)
{
	uint32_t r[4];

	build(1, 2500000000);
	get(1, 0, 0, 0, 1, r);
	CHECK(!(r[2] >> 27 & 1));
	get(1, 0, 0, X86_CR4_OSXSAVE, 1, r);
	CHECK(r[2] >> 27 & 1);
}

TEST(every_vcpu_finds_its_own_apic_id_in_all_three_places)
{
	uint32_t r[4];

	build(6, 2500000000);
	for (uint32_t id = 0; id < 6; id++) {
		get(1, 0, id, 0, 1, r);
		CHECK_EQ(r[1] >> 24, id);
		for (uint32_t sub = 0; sub < 4; sub++) {
			get(0xb, sub, id, 0, 1, r);
			CHECK_EQ(r[3], id);
			CHECK_EQ(r[2] & 0xff, sub);
			get(0x1f, sub, id, 0, 1, r);
			CHECK_EQ(r[3], id);
		}
	}
	/* six cores need three bits of APIC id; a level that does not exist has type 0 */
	get(0xb, 1, 0, 0, 1, r);
	CHECK_EQ(r[0], 3);
	CHECK_EQ(r[1], 6);
	get(0xb, 2, 0, 0, 1, r);
	CHECK_EQ(r[2] >> 8, 0);
	CHECK_EQ(r[1], 0);
	get(1, 0, 0, 0, 1, r);
	CHECK_EQ((r[1] >> 16) & 0xff, 8);
	CHECK(r[3] >> 28 & 1);
}

TEST(leaf_4_ends_with_a_null_cache)
{
	uint32_t r[4], n = 0;

	build(2, 2500000000);
	for (;; n++) {
		CHECK(n < 8);
		get(4, n, 0, 0, 1, r);
		if (!(r[0] & 0x1f))
			break;
	}
	CHECK_EQ(n, 4);
}

TEST(xsave_area_is_legacy_plus_header_and_what_xcr0_adds)
{
	uint32_t r[4], most = x86_host_features() & X86_F_BIT(AVX) ? 832 : 576;

	build(1, 2500000000);
	get(0xd, 0, 0, X86_CR4_OSXSAVE, 3, r);
	CHECK_EQ(r[0], most == 832 ? 7 : 3);
	CHECK_EQ(r[1], 576);
	CHECK_EQ(r[2], most);
	get(0xd, 0, 0, X86_CR4_OSXSAVE, 7, r);
	CHECK_EQ(r[1], most);
	if (most == 832) {
		get(0xd, 1, 0, X86_CR4_OSXSAVE, 7, r);
		CHECK_EQ(r[1], 832);
		get(0xd, 2, 0, X86_CR4_OSXSAVE, 7, r);
		CHECK_EQ(r[0], 256);
		CHECK_EQ(r[1], 576);
		CHECK_EQ(r[2], 0);
	}
	get(0xd, 1, 0, X86_CR4_OSXSAVE, 3, r);
	CHECK_EQ(r[0], 7);
	CHECK_EQ(r[1], 576);
}

TEST(leaf_15_gives_the_tsc_to_a_few_parts_per_million_without_overflow)
{
	static const uint64_t hz[] = { 1000000000, 1996249000, 2445407000, 2899998123, 3693061000, 4299999000 };
	uint32_t r[4];

	for (unsigned i = 0; i < sizeof(hz) / sizeof(hz[0]); i++) {
		build(1, hz[i]);
		get(0x15, 0, 0, 0, 1, r);
		CHECK(r[0] && r[1]);
		/* as Linux computes it, in 32 bits */
		CHECK((uint64_t)(r[2] / 1000) * r[1] <= UINT32_MAX);
		int64_t off = (int64_t)((uint64_t)(r[2] / 1000) * r[1] / r[0]) - (int64_t)(hz[i] / 1000);
		CHECK(off * 200000 < (int64_t)(hz[i] / 1000) && -off * 200000 < (int64_t)(hz[i] / 1000));
	}
}

TEST(kvm_leaves_announce_the_clock_only_when_there_is_one)
{
	struct x86_cpuid_params p = { .n_vcpus = 1, .engine = &x86_features_interp, .tsc_hz = 2500000000, .phys_bits = 40 };
	uint32_t r[4];

	x86_cpuid_build(&table, &p);
	get(0x40000000, 0, 0, 0, 1, r);
	CHECK_EQ(r[0], 0x40000010);
	CHECK_MEM((char *)&r[1], "KVMKVMKVM\0\0\0", 12);
	get(0x40000001, 0, 0, 0, 1, r);
	CHECK_EQ(r[0] & (1u << 0 | 1u << 3 | 1u << 24), 0);
	build(1, 2500000000);
	get(0x40000001, 0, 0, 0, 1, r);
	CHECK_EQ(r[0] & (1u << 0 | 1u << 3 | 1u << 24), 1u << 0 | 1u << 3 | 1u << 24);
	get(0x40000010, 0, 0, 0, 1, r);
	CHECK_EQ(r[0], 2500000);
}

TEST(leaves_out_of_range_answer_like_the_last_basic_leaf)
{
	uint32_t a[4], b[4];

	build(4, 2500000000);
	get(0x1f, 1, 2, 0, 1, a);
	get(0x20, 1, 2, 0, 1, b);
	CHECK_MEM(a, b, sizeof(a));
	get(0x80000009, 1, 2, 0, 1, b);
	CHECK_MEM(a, b, sizeof(a));
	get(0xffffffff, 1, 2, 0, 1, b);
	CHECK_MEM(a, b, sizeof(a));
	get(0x40000080, 1, 2, 0, 1, b);
	CHECK_EQ(b[0] | b[1] | b[2] | b[3], 0);
	get(3, 0, 0, 0, 1, b);
	CHECK_EQ(b[0] | b[1] | b[2] | b[3], 0);
}

TEST(address_sizes_follow_the_parameters)
{
	uint32_t r[4];

	build(1, 2500000000);
	get(0x80000008, 0, 0, 0, 1, r);
	CHECK_EQ(r[0] & 0xff, 40);
	CHECK_EQ((r[0] >> 8) & 0xff, 57);
}

TEST(hardware_engines_never_announce_more_than_the_allow_list)
{
	const struct x86_cpuid_params p = { .n_vcpus = 255, .engine = &x86_features_allowed, .tsc_hz = 2500000000, .phys_bits = 46 };
	static const struct { uint32_t leaf, sub; uint8_t reg; enum x86_cpuid_word w; uint32_t extra; } check[] = {
		{ 1, 0, 2, X86_W_1_ECX, 0 }, { 1, 0, 3, X86_W_1_EDX, 1u << 28 }, { 7, 0, 1, X86_W_7_EBX, 0 },
		{ 7, 0, 2, X86_W_7_ECX, 0 }, { 7, 0, 3, X86_W_7_EDX, 0 }, { 0xd, 1, 0, X86_W_D1_EAX, 0 },
		{ 0x80000001, 0, 2, X86_W_80000001_ECX, 0 }, { 0x80000001, 0, 3, X86_W_80000001_EDX, 0 },
	};
	uint32_t r[4];

	x86_cpuid_build(&table, &p);
	CHECK(table.n < X86_CPUID_MAX);
	for (unsigned i = 0; i < sizeof(check) / sizeof(check[0]); i++) {
		get(check[i].leaf, check[i].sub, 0, 0, 1, r);
		CHECK_EQ(r[check[i].reg] & ~(x86_features_allowed.word[check[i].w] | check[i].extra), 0);
	}
	get(0xd, 0, 0, X86_CR4_OSXSAVE, x86_cpuid_xcr0(&table), r);
	CHECK(r[2] <= X86_XSAVE_SIZE);
	CHECK_EQ(r[1], r[2]);
}
