/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock before a hostile driver (virtio_rig.h): the host connects, waits, writes, reads and closes as the input wants. */
#include "virtio/vsock.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "virtio_rig.h"

enum { ENDS = 16, CID = 3 };

static int ends[ENDS];          /* the host's programs; -1: none */

static struct virtio_dev *make(struct rig *r, uint8_t options)
{
	struct virtio_dev *d = NULL;

	for (unsigned i = 0; i < ENDS; i++)
		ends[i] = -1;
	FUZZ_CHECK(virtio_vsock_new(&d, &r->env, CID, NULL) == 0);
	return d;
}

static void close_end(unsigned i)
{
	if (ends[i] >= 0)
		close(ends[i]);
	ends[i] = -1;
}

static void begin(struct rig *r, unsigned i, bool waits, uint32_t port)
{
	int sv[2];

	close_end(i);
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv) == 0);
	ends[i] = sv[0];
	if ((waits ? virtio_vsock_wait : virtio_vsock_connect)(r->d, sv[1], port, NULL) < 0)
		close(sv[1]);
}

static void outside(struct rig *r)
{
	uint8_t what = fuzz_u8(&r->f), buf[4096] = "bytes";
	unsigned i = what >> 4;

	switch (what & 7) {
	case 0: begin(r, i, false, fuzz_u8(&r->f)); break;
	case 1: begin(r, i, true, fuzz_u8(&r->f)); break;
	case 2: close_end(i); break;
	case 3:
		if (ends[i] >= 0)
			shutdown(ends[i], what & 8 ? SHUT_RD : SHUT_WR);
		break;
	case 4:
	case 5:
		if (ends[i] >= 0 && send(ends[i], buf, 1 + 16 * fuzz_u8(&r->f), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			break;
		break;
	default:
		if (ends[i] >= 0 && recv(ends[i], buf, sizeof(buf), MSG_DONTWAIT) < 0)
			break;
		break;
	}
}

static void check(struct rig *r)
{
	FUZZ_CHECK(virtio_vsock_count(r->d) <= VIRTIO_VSOCK_CONNS_MAX);
}

static void drop(struct rig *r)
{
	for (unsigned i = 0; i < ENDS; i++)
		close_end(i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct rig_target target = { .make = make, .outside = outside, .check = check, .drop = drop };

	return rig_run(&target, data, len);
}
