/* SPDX-License-Identifier: Apache-2.0 */
/* vsock_host.h - the Unix socket at which programs of the host reach those of the guest.
 *
 * A program connects and says a line: "CONNECT PORT", and is answered "OK PORT" when a program of the guest has accepted; or
 * "LISTEN PORT", and is answered "CONNECTED PORT" when one has connected. From then on the stream is theirs. What is not
 * possible is answered with "ERR" and a sentence, or the connection closes. The machine connects to nothing by itself: in
 * its jail it cannot. Loop thread. */
#ifndef VM_VSOCK_HOST_H
#define VM_VSOCK_HOST_H

#include <stdbool.h>

struct err;
struct loop;
struct virtio_dev;
struct vsock_host;

/* The socket at PATH, which listens: its descriptor. -EADDRINUSE and what else can go wrong. */
int vsock_host_listen(const char *path, struct err *err);
/* Make the socket at PATH, or take over HANDED (borrowed; -1: none), another process's listener there. Nobody is served
 * before vsock_host_start(). D is borrowed, and is a socket device. */
int vsock_host_open(struct vsock_host **out, struct loop *loop, struct virtio_dev *d, const char *path, int handed, struct err *err);
void vsock_host_start(struct vsock_host *h);            /* twice is once; NULL is fine */
int vsock_host_fd(const struct vsock_host *h);          /* the listener, borrowed; -1 for NULL */
/* Closes what has not said its line yet, and unlinks the socket unless its name is another process's by now. NULL is fine. */
void vsock_host_close(struct vsock_host *h, bool keeps_name);

#endif
