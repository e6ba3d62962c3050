/* SPDX-License-Identifier: Apache-2.0 */
/* fpu_rig.h - an icpu with flat memory, which executes single instructions of x87, MMX, SSE and AVX. */
#ifndef TESTS_UNIT_CPU_FPU_RIG_H
#define TESTS_UNIT_CPU_FPU_RIG_H

#include "cpu/interp/vec.h"

enum { MEM = 0x10000, MEM_LEN = 0x2000, END = MEM + MEM_LEN /* from here on all faults */, NO_FAULT = -1 };

struct rig {
	struct icpu *c;
	uint8_t mem[MEM_LEN];           /* at MEM; all else faults */
};

void rig_init(struct rig *r);
/* Execute CODE; the vector it faults with, or NO_FAULT. */
int rig_run(struct rig *r, const char *code, unsigned len);
#define RUN(r, code) rig_run((r), (code), sizeof(code) - 1)

void set_ps(struct rig *r, unsigned reg, float a, float b, float c, float d);
uint16_t fsw(const struct rig *r);
void set_ymm(struct rig *r, unsigned reg, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
uint64_t ymm64(struct rig *r, unsigned reg, unsigned i);
/* Skip the case where the host lacks FEATURES. */
void need_host(uint64_t features);

#endif
