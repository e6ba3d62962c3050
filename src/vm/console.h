/* SPDX-License-Identifier: Apache-2.0 */
/* console.h - the host's end of a serial line: terminal, file, socket, pseudo-terminal.
 *
 * Output is buffered and written by the loop thread, so a stuck terminal never stops a
 * processor. Loop thread, except console_write(), which any thread may call. */
#ifndef VM_CONSOLE_H
#define VM_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/cleanup.h"

struct console;
struct err;
struct loop;

/* The device's end. */
struct console_guest {
	/* Bytes for the guest; returns how many it took. */
	size_t (*input)(void *arg, const uint8_t *buf, size_t len);
	/* console_write() took less than all and may be called again. NULL: nobody asks. */
	void (*writable)(void *arg);
	/* A socket's client came or went; at first there is none. NULL: nobody asks. */
	void (*connected)(void *arg, bool is_connected);
	void *arg;
};

/* Keys of a terminal after Ctrl-a: x calls QUIT, Ctrl-a or a sends Ctrl-a, h helps. */
struct console_config {
	const char *target;             /* as in struct config_console */
	struct console_guest guest;
	/* Another process's ends of the same console, by enum handed_part of handover.h (borrowed for the call), which
	 * are looked at from console_start() on; NULL: none. */
	const int *handed;
	int fd;                         /* file, socket: the file or the listener, borrowed; -1: opened by TARGET's name */
	void (*quit)(void *arg);        /* the user wants to end */
	void *quit_arg;
};

int console_open(struct console **out, struct loop *loop, const struct console_config *cfg, struct err *err);
void console_close(struct console *c);          /* writes what is left if it can; NULL is fine */
DEFINE_AUTO(struct console *, console_close)

/* The same while the loop goes on, on its thread; nobody calls any function on it any more. C is freed later. */
void console_retire(struct console *c);

/* The machine starts or goes on. The first time, a file is emptied, or written on at its end with
 * KEEPS_FILE: opening alone loses nothing. */
void console_start(struct console *c, bool keeps_file);

/* What another process needs to take it over: FDS (borrowed), -1: none. -ENOTSUP: a terminal, which keeps what it
 * was set to in one process only. */
int console_hand_over(const struct console *c, int fds[4], struct err *err);
/* It has been taken over: closing it leaves its name in the file system. */
void console_forget_name(struct console *c);

/* Returns how much was taken: all, unless the buffer of 1 MiB is full. */
size_t console_write(struct console *c, const uint8_t *buf, size_t len);
/* The guest can take input again. Any thread. */
void console_kick_input(struct console *c);

/* A descriptor of our own for what FD writes to. A terminal that stands still (Ctrl-S, a slow
 * line) says that it can be written and then blocks. FD is shared with the shell, whose terminal
 * must not become non-blocking, so the terminal is opened once more and that is non-blocking;
 * when it is not permitted, or FD is none, this is a plain duplicate. -1: errno. */
int console_own_output(int fd);

#endif
