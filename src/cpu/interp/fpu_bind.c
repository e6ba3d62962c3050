/* SPDX-License-Identifier: Apache-2.0 */
/* fpu_bind.c - the handler of a vector, x87 or state instruction. */
#include "cpu/interp/vec.h"

iop_fn interp_bind_fpu(const struct x86_insn *x)
{
	static iop_fn (*const binds[])(const struct x86_insn *x) = {
		sse_move_bind, mmx_bind, sse_lane_bind, sse_op_bind, x87_control_bind,
		x87_bind, xsave_bind,
	};
	static iop_fn (*const vex_binds[])(const struct x86_insn *x) = {
		avx_move_bind, avx_mask_bind, avx_op_bind,
	};
	iop_fn fn = NULL;

	if (x->vl) {
		for (unsigned i = 0; !fn && i < sizeof(vex_binds) / sizeof(vex_binds[0]); i++)
			fn = vex_binds[i](x);
		return fn;
	}
	for (unsigned i = 0; !fn && i < sizeof(binds) / sizeof(binds[0]); i++)
		fn = binds[i](x);
	return fn;
}
