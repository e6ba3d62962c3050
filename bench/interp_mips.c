/* SPDX-License-Identifier: Apache-2.0 */
/* interp_mips - how many guest instructions the interpreter executes in a second: a loop of mixed
 * integer instructions in 64-bit mode without paging. Prints one line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu/interp/interp.h"
#include "util/err.h"

enum { CODE = 0x1000, DATA = 0x8000, LOOPS = 10000000, INSNS = 11 };

static const uint8_t code[] = {
	0x48, 0x8b, 0x03,               /* l: mov rax, [rbx] */
	0x48, 0x01, 0xd0,               /* add rax, rdx */
	0x48, 0xc1, 0xe8, 0x03,         /* shr rax, 3 */
	0x48, 0x89, 0x43, 0x08,         /* mov [rbx+8], rax */
	0x48, 0x8d, 0x54, 0x10, 0x05,   /* lea rdx, [rax+rdx+5] */
	0x31, 0xc6,                     /* xor esi, eax */
	0x0f, 0xb6, 0xfa,               /* movzx edi, dl */
	0x57,                           /* push rdi */
	0x41, 0x58,                     /* pop r8 */
	0xff, 0xc9,                     /* dec ecx */
	0x75, 0xe1,                     /* jnz l */
	0xf4,                           /* hlt */
};

struct bench {
	struct gmem *mem;
	struct cpu_vm *vm;
	struct vcpu *v;
};

static uint32_t pio_read(void *arg, unsigned cpu, uint16_t port, unsigned size) { return 0; }

/* OUT ends the run: HLT would park. */
static void pio_write(void *arg, unsigned cpu, uint16_t port, unsigned size, uint32_t val)
{
	cpu_interp.kick(((struct bench *)arg)->v);
}

static void put64(struct gmem *m, gpa_t gpa, uint64_t v)
{
	if (gmem_write(m, gpa, &v, 8) < 0)
		exit(1);
}

int main(void)
{
	struct bench b = { 0 };
	struct cpu_host host = { .arg = &b, .pio_read = pio_read, .pio_write = pio_write };
	struct cpu_config cfg = { .n_vcpus = 1, .host = &host };
	struct err err = ERR_INIT;
	struct timespec t0, t1;
	struct x86_state s;

	if (gmem_new(&b.mem, 4 << 20, &err) < 0) {
		fprintf(stderr, "interp_mips: %s\n", err.msg);
		return 1;
	}
	cfg.mem = b.mem;
	if (cpu_interp.vm_new(&b.vm, &cfg, &err) < 0) {
		fprintf(stderr, "interp_mips: %s\n", err.msg);
		return 1;
	}
	b.v = cpu_interp.vcpu(b.vm, 0);
	put64(b.mem, 0x10000, 0x11003);
	put64(b.mem, 0x11000, 0x12003);
	put64(b.mem, 0x12000, 0x83);
	uint8_t text[sizeof(code) + 1];

	memcpy(text, code, sizeof(code));
	text[sizeof(code) - 1] = 0xe6;  /* out 0, al in place of hlt */
	text[sizeof(code)] = 0;
	if (gmem_write(b.mem, CODE, text, sizeof(text)) < 0)
		return 1;
	cpu_interp.get_state(b.v, &s, NULL);
	for (unsigned i = 0; i < X86_N_SEGS; i++)
		s.seg[i] = (struct x86_seg){ .limit = 0xffffffff, .attr = 0xc093, .sel = 16 };
	s.seg[X86_CS].attr = 0xa09b;
	s.cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_NE;
	s.cr3 = 0x10000;
	s.cr4 = X86_CR4_PAE;
	s.efer = X86_EFER_LME | X86_EFER_LMA;
	s.rip = CODE;
	s.rflags = X86_FLAGS_FIXED;
	s.gpr[X86_RBX] = DATA;
	s.gpr[X86_RSP] = DATA + 0x1000;
	s.gpr[X86_RCX] = LOOPS;
	cpu_interp.set_state(b.v, &s, NULL);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	cpu_interp.run(b.v, &err);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	double sec = (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9;
	struct cpu_stats st;

	cpu_interp.stats(b.v, &st);
	printf("interp: %.1f M instructions/s (%llu in %.3f s)\n", (double)st.insns / sec / 1e6,
	       (unsigned long long)st.insns, sec);
	cpu_interp.vm_free(b.vm);
	gmem_free(b.mem);
	return 0;
}
