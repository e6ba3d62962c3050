/* SPDX-License-Identifier: Apache-2.0 */
/* native.c - run cases on the real CPU. A child process maps the test's address space and lives in
 * its signal handler from then on: the handler stores the state at which the last case ended,
 * loads the next case into the signal frame and returns into it. So a case costs one signal.
 *
 * While a case runs, FS is not the C library's: the handler uses no thread-local storage (built
 * without stack protector, linked with -z now). */
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <immintrin.h>
#include "child.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/state.h"
#include "diff.h"

enum { USER_CS = 0x33, USER32_CS = 0x23, USER_DS = 0x2b, SECONDS = 20 /* a case that loops ends the child */ };

struct native {
	const struct diff_case *cases;
	struct diff_result *results;
	unsigned n, next;
	uint8_t *code_rw;                       /* a writable view of the code page */
	uint8_t pattern[DIFF_DATA_LEN];
	uint64_t fs_base, gs_base;              /* the C library's */
	bool has_avx;
};

/* A signal handler has no argument to pass it in; only the child uses it. */
static struct native native;

static const uint8_t native_greg[16] = {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
	REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

__attribute__((target("fsgsbase"))) static void native_set_bases(uint64_t fs, uint64_t gs)
{
	_writefsbase_u64(fs);
	_writegsbase_u64(gs);
}

/* What the signal means: the trap that ends every case, or an exception of the instruction. */
static void native_outcome(struct diff_result *r, const greg_t *g)
{
	r->vector = g[REG_TRAPNO];
	r->error = g[REG_ERR];
	r->cr2 = r->vector == X86_EXC_PF ? (uint64_t)g[REG_CR2] : 0;
	if (r->vector == X86_EXC_BP) {
		r->vector = DIFF_NO_VECTOR;
		r->out.rip--;
	} else if (r->out.rip != DIFF_START && r->vector == X86_EXC_PF && r->error & X86_PF_I) {
		r->vector = DIFF_NO_VECTOR;     /* branched to where nothing can run */
	}
	if (r->vector == DIFF_NO_VECTOR) {
		r->error = 0;
		r->cr2 = 0;
	}
}

/* The frame holds an XSAVE area when there is more than FXSAVE's. */
static void native_save_vectors(struct diff_result *r, const uint8_t *area)
{
	memcpy(r->out.fx, area, DIFF_FX_LEN);
	if (native.has_avx && area[X86_XS_BV] & 4)
		memcpy(r->out.ymmh, area + X86_XS_AVX, DIFF_YMMH_LEN);
	else
		memset(r->out.ymmh, 0, DIFF_YMMH_LEN);
}

__attribute__((target("fsgsbase"))) static void native_save(struct diff_result *r, ucontext_t *uc)
{
	const greg_t *g = uc->uc_mcontext.gregs;

	for (unsigned i = 0; i < 16; i++)
		r->out.gpr[i] = g[native_greg[i]];
	r->out.rip = g[REG_RIP];
	r->out.rflags = g[REG_EFL];
	r->out.fs_base = _readfsbase_u64();
	r->out.gs_base = _readgsbase_u64();
	native_save_vectors(r, (const uint8_t *)uc->uc_mcontext.fpregs);
	memcpy(r->mem, (const void *)DIFF_DATA, DIFF_RW_LEN);
	native_outcome(r, g);
	r->has_run = true;
}

static void native_load(const struct diff_case *c, ucontext_t *uc)
{
	greg_t *g = uc->uc_mcontext.gregs;
	uint8_t *fx = (uint8_t *)uc->uc_mcontext.fpregs;
	uint64_t cs = c->is_32 ? USER32_CS : USER_CS;

	memset(native.code_rw + (DIFF_START - DIFF_CODE), 0xcc, X86_INSN_MAX);
	memcpy(native.code_rw + (DIFF_START - DIFF_CODE), c->code, c->len);
	memcpy((void *)DIFF_DATA, native.pattern, DIFF_RW_LEN);
	if (c->patch_len)
		memcpy((void *)c->patch_addr, c->patch, c->patch_len);
	for (unsigned i = 0; i < 16; i++)
		g[native_greg[i]] = c->in.gpr[i];
	g[REG_RIP] = c->in.rip;
	g[REG_EFL] = c->in.rflags;
	g[REG_CSGSFS] = (g[REG_CSGSFS] & ~0xffffll) | (greg_t)cs;
	memcpy(fx, c->in.fx, DIFF_FX_LEN);
	fx[X86_XS_BV] |= 3;                     /* x87 and SSE are to be loaded */
	if (native.has_avx) {
		memcpy(fx + X86_XS_AVX, c->in.ymmh, DIFF_YMMH_LEN);
		fx[X86_XS_BV] |= 4;
	}
	native_set_bases(c->in.fs_base, c->in.gs_base);
	__asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(USER_DS));
}

/* Flags that POPF may have left set and that the kernel neither clears for a handler nor takes
 * from the signal frame. AC would make the C library's own accesses fault. */
static void native_clear_flags(void)
{
	__asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; andq %0, (%%rsp); popfq; lea 128(%%rsp), %%rsp"
			 : : "i"(~(int)(X86_AC | X86_ID | X86_NT)) : "cc", "memory");
}

static void native_handler(int sig, siginfo_t *info, void *ctx)
{
	ucontext_t *uc = ctx;

	native_clear_flags();
	if (native.next)
		native_save(&native.results[native.next - 1], uc);
	if (native.next == native.n)
		_exit(0);
	native_load(&native.cases[native.next++], uc);
}

static bool native_map(void)
{
	int fd = memfd_create("code", MFD_CLOEXEC);
	void *code, *data;

	if (fd < 0 || ftruncate(fd, 4096) < 0)
		return false;
	native.code_rw = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (native.code_rw == MAP_FAILED)
		return false;
	memset(native.code_rw, 0xcc, 4096);
	code = mmap((void *)DIFF_CODE, 4096, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE,
		    fd, 0);
	data = mmap((void *)DIFF_DATA, DIFF_DATA_LEN, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (code == MAP_FAILED || data == MAP_FAILED)
		return false;
	gen_pattern(native.pattern);
	memcpy(data, native.pattern, DIFF_DATA_LEN);
	return mprotect((uint8_t *)data + DIFF_RW_LEN, DIFF_DATA_LEN - DIFF_RW_LEN, PROT_READ) == 0;
}

int native_run(const struct diff_case *cases, struct diff_result *results, unsigned n)
{
	native.cases = cases;
	native.results = results;
	native.n = n;
	native.next = 0;
	native.has_avx = x86_host_features() >> X86_F_AVX & 1;
	for (unsigned i = 0; i < n; i++)
		results[i].has_run = false;
	return child_run(native_handler, native_map, SECONDS);
}
