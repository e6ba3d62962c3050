/* SPDX-License-Identifier: Apache-2.0 */
/* console_hub.h - the console of one machine, for many who look and type, and for those who come later.
 *
 * The hub is the one client of the machine's console socket. What the guest says goes to a file, to all WebSockets that
 * are open, and into a buffer that a new one gets first. What they type goes to the guest. Loop thread. */
#ifndef NODE_CONSOLE_HUB_H
#define NODE_CONSOLE_HUB_H

#include "api/route.h"
#include "util/cleanup.h"

struct console_hub;
struct loop;
struct works;

enum { CONSOLE_KEEP = 64 << 10 };      /* bytes that a new client gets */

/* LOG_PATH (copied) is appended to by WRITER (spool.h); its directory may come later. */
int console_hub_new(struct console_hub **out, struct loop *l, struct works *writer, const char *log_path);
/* Closes what looks. NULL is fine. */
void console_hub_free(struct console_hub *h);
/* The machine runs: connect to its socket. Tried again until console_hub_detach(). */
void console_hub_attach(struct console_hub *h, const char *socket_path);
/* It has ended; what is left in the socket is read first, then those who look are told. */
void console_hub_detach(struct console_hub *h);
/* Answer C with a WebSocket: binary messages both ways. With ?from= there is a text message {"line", "at", "until"}
 * first: the number, on LINE, of the first byte that follows, and of the first that is not from before: a terminal does not answer what was asked
 * before that. Who counts on and comes back with from=LINE:NUMBER gets what it
 * has missed, as far as it is still in the buffer. */
void console_hub_open(struct console_hub *h, struct api_call *c);
/* Answer C with what is in the buffer: the last that the guest has said, to earlier daemons, too. */
void console_hub_answer(struct console_hub *h, struct api_call *c);
/* What is in the buffer, up to MAX bytes of its end, from malloc(). NULL: out of memory. */
char *console_hub_text(const struct console_hub *h, size_t max, size_t *len);

#endif
