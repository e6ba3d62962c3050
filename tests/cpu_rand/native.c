/* SPDX-License-Identifier: Apache-2.0 */
/* native.c - programs on the real CPU: as cpu_diff's native.c, a child process that lives in its signal handler.
 * Each exception is a signal; the handler notes it and returns to where the program goes on, or into the
 * next program.
 *
 * While a program runs, FS is not the C library's: the handler uses no thread-local storage (built without stack
 * protector, linked with -z now). */
#include <immintrin.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include "../cpu_diff/child.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/state.h"
#include "rand.h"

enum { SECONDS = 60 };                  /* a program that loops ends the child */

struct native {
	const struct rand_prog *progs;
	struct rand_result *results;
	unsigned n, next;               /* next: after the one that runs */
	uint8_t pattern[DIFF_DATA_LEN];
	bool has_avx;
};

/* A signal handler has no argument to pass it in; only the child uses it. */
static struct native native;

static const uint8_t native_greg[16] = {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
	REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

static void native_note(struct rand_result *r, const greg_t *g)
{
	struct rand_event *e = &r->event[r->n_events++];

	e->vector = (uint8_t)g[REG_TRAPNO];
	e->error = (uint32_t)g[REG_ERR];
	e->cr2 = e->vector == X86_EXC_PF ? (uint64_t)g[REG_CR2] : 0;
	e->rip = (uint64_t)g[REG_RIP];
	for (unsigned i = 0; i < 16; i++)
		e->gpr[i] = (uint64_t)g[native_greg[i]];
}

static void native_save(struct rand_result *r, ucontext_t *uc)
{
	const greg_t *g = uc->uc_mcontext.gregs;
	const uint8_t *area = (const uint8_t *)uc->uc_mcontext.fpregs;

	for (unsigned i = 0; i < 16; i++)
		r->out.gpr[i] = (uint64_t)g[native_greg[i]];
	r->out.rip = (uint64_t)g[REG_RIP];
	r->out.rflags = (uint64_t)g[REG_EFL];
	memcpy(r->out.fx, area, DIFF_FX_LEN);
	if (native.has_avx && area[X86_XS_BV] & 4)
		memcpy(r->out.ymmh, area + X86_XS_AVX, DIFF_YMMH_LEN);
	memcpy(r->code, (const void *)RAND_CODE, RAND_CODE_LEN);
	memcpy(r->data, (const void *)DIFF_DATA, DIFF_RW_LEN);
	memcpy(r->stack, (const void *)RAND_STACK, RAND_STACK_LEN);
	r->has_run = true;
}

__attribute__((target("fsgsbase"))) static void native_load(const struct rand_prog *p, struct rand_result *r, ucontext_t *uc)
{
	greg_t *g = uc->uc_mcontext.gregs;
	uint8_t *fx = (uint8_t *)uc->uc_mcontext.fpregs;

	r->n_events = 0;
	memset(r->out.ymmh, 0, sizeof(r->out.ymmh));
	memcpy((void *)RAND_CODE, p->code, RAND_CODE_LEN);
	memcpy((void *)DIFF_DATA, native.pattern, DIFF_RW_LEN);
	memset((void *)RAND_STACK, 0x5a, RAND_STACK_LEN);
	for (unsigned i = 0; i < 16; i++)
		g[native_greg[i]] = (greg_t)p->in.gpr[i];
	g[REG_RIP] = (greg_t)p->in.rip;
	g[REG_EFL] = (greg_t)p->in.rflags;
	memcpy(fx, p->in.fx, DIFF_FX_LEN);
	fx[X86_XS_BV] |= 3;                     /* x87 and SSE are to be loaded */
	if (native.has_avx) {
		memcpy(fx + X86_XS_AVX, p->in.ymmh, DIFF_YMMH_LEN);
		fx[X86_XS_BV] |= 4;
	}
	_writefsbase_u64(p->in.fs_base);
	_writegsbase_u64(p->in.gs_base);
}

static void native_handler(int sig, siginfo_t *info, void *ctx)
{
	ucontext_t *uc = ctx;
	greg_t *g = uc->uc_mcontext.gregs;

	if (native.next) {
		const struct rand_prog *p = &native.progs[native.next - 1];
		struct rand_result *r = &native.results[native.next - 1];
		uint64_t to = rand_resume(p, (uint64_t)g[REG_RIP]);

		native_note(r, g);
		if (to && r->n_events < RAND_EVENTS) {
			g[REG_RIP] = (greg_t)to;
			g[REG_EFL] = X86_FLAGS_FIXED | X86_IF;
			return;
		}
		native_save(r, uc);
	}
	if (native.next == native.n)
		_exit(0);
	native_load(&native.progs[native.next], &native.results[native.next], uc);
	native.next++;
}

static bool native_map_at(uint64_t at, size_t len, int rights)
{
	return mmap((void *)at, len, rights, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0) != MAP_FAILED;
}

static bool native_map(void)
{
	const int rw = PROT_READ | PROT_WRITE;

	if (!native_map_at(RAND_CODE, RAND_CODE_LEN, rw | PROT_EXEC) || !native_map_at(DIFF_DATA, DIFF_DATA_LEN, rw) ||
	    !native_map_at(RAND_STACK, RAND_STACK_LEN, rw))
		return false;
	gen_pattern(native.pattern);
	memcpy((void *)DIFF_DATA, native.pattern, DIFF_DATA_LEN);
	return mprotect((void *)(DIFF_DATA + DIFF_RW_LEN), DIFF_DATA_LEN - DIFF_RW_LEN, PROT_READ) == 0;
}

int rand_native_run(const struct rand_prog *progs, struct rand_result *results, unsigned n)
{
	native.progs = progs;
	native.results = results;
	native.n = n;
	native.next = 0;
	native.has_avx = x86_host_features() >> X86_F_AVX & 1;
	for (unsigned i = 0; i < n; i++)
		results[i].has_run = false;
	return child_run(native_handler, native_map, SECONDS);
}
