/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-console before a hostile driver (virtio_rig.h): a console and two named ports, typed into
 * and stopped as the input wants. */
#include "virtio/console.h"

#include "virtio_rig.h"

enum { PORTS = 3 };

struct port {
	uint8_t room;           /* bytes that write() takes before it stops */
	unsigned n_opened;
};
static struct port ports[PORTS];

static size_t port_write(void *arg, const uint8_t *buf, size_t len)
{
	struct port *p = arg;
	size_t n = len < p->room ? len : p->room;
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)        /* every byte must be readable */
		sum ^= buf[i];
	p->room = (uint8_t)(p->room - n + (sum & 1 && p->room > n));
	return n;
}

static void port_readable(void *arg) {}
static void port_opened(void *arg, bool is_open) { ((struct port *)arg)->n_opened++; }

static struct virtio_dev *make(struct rig *r, uint8_t options)
{
	struct virtio_console_port p[PORTS];
	struct virtio_console_config cfg = { .ports = p, .n_ports = options & 2 ? PORTS : 1, .cols = 80, .rows = 25 };
	static const char *const names[PORTS] = { NULL, "org.a", "org.b" };
	struct virtio_dev *d = NULL;

	for (unsigned i = 0; i < PORTS; i++) {
		ports[i] = (struct port){ .room = 200 };
		p[i] = (struct virtio_console_port){
			.name = names[i], .arg = &ports[i], .write = port_write,
			.readable = port_readable, .opened = port_opened,
		};
	}
	FUZZ_CHECK(virtio_console_new(&d, &r->env, &cfg, NULL) == 0);
	return d;
}

static void outside(struct rig *r)
{
	uint8_t what = fuzz_u8(&r->f), buf[255];
	unsigned n_ports = r->d->n_queues > 2 ? PORTS : 1, port = (what >> 4) % n_ports;
	size_t len;

	switch (what & 7) {
	case 0: case 1: case 2:
		len = fuzz_u8(&r->f);
		memset(buf, 'x', sizeof(buf));
		FUZZ_CHECK(virtio_console_input(r->d, port, buf, len) <= len);
		break;
	case 3:
		ports[port].room = fuzz_u8(&r->f);
		virtio_console_writable(r->d, port);
		break;
	case 4:
		virtio_console_resize(r->d, port, fuzz_u8(&r->f), fuzz_u8(&r->f));
		break;
	case 5:
		virtio_console_set_open(r->d, port, what & 8);
		break;
	default:
		virtio_console_can_receive(r->d, port);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct rig_target target = { .make = make, .outside = outside };

	return rig_run(&target, data, len);
}
