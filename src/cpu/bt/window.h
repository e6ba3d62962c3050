/* SPDX-License-Identifier: Apache-2.0 */
/* window.h - when user code runs by the host's MMU, and its faults. Vcpu thread only. */
#ifndef CPU_BT_WINDOW_H
#define CPU_BT_WINDOW_H

#include <stdbool.h>

struct bt_cpu;

/* This thread runs code of B from here on, and what that faults at is seen to. */
void bt_window_begin(struct bt_cpu *b);
/* Code has left because of a request: time goes by. True: other code is to run from here on. */
bool bt_window_polled(struct bt_cpu *b);
/* Open the window of the present space, if there can be one, for the regions where its tables have user entries. */
bool bt_window_now(struct bt_cpu *b);
/* Code has left by a fault: run the instruction. Faults. */
void bt_window_fault(struct bt_cpu *b);
/* The guest may have come back to an instruction at which it had a page fault (fault_la): map what it has now. */
void bt_window_return(struct bt_cpu *b);

#endif
