/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include "driver.h"
#include "test.h"
#include "util/endian.h"
#include "util/err.h"
#include "virtio/console.h"

enum { F_SIZE = 0, F_MULTIPORT = 1, CTRL_RX = 2, CTRL_TX = 3 };

struct host {
	uint8_t buf[70000];
	size_t len, room;
	unsigned n_readable, n_opened;
	bool is_open;
	struct rig *reset_in_write;     /* the guest resets the device while the host is busy */
};

static size_t host_write(void *arg, const uint8_t *buf, size_t len)
{
	struct host *h = arg;
	size_t n = len < h->room ? len : h->room;

	CHECK(h->len + n <= sizeof(h->buf));
	memcpy(h->buf + h->len, buf, n);
	h->len += n;
	h->room -= n;
	if (h->reset_in_write)
		rig_write(h->reset_in_write, R_STATUS, 1, 0);
	return n;
}

static void host_readable(void *arg)
{
	((struct host *)arg)->n_readable++;
}

static void host_opened(void *arg, bool is_open)
{
	((struct host *)arg)->is_open = is_open;
	((struct host *)arg)->n_opened++;
}

static void console_new(struct rig *r, struct host *h, unsigned n_ports)
{
	struct virtio_console_port p[3];
	static const char *const names[] = { NULL, "org.viv.agent", NULL };

	for (unsigned i = 0; i < n_ports; i++) {
		h[i] = (struct host){ .room = SIZE_MAX };
		p[i] = (struct virtio_console_port){ names[i], &h[i], host_write, host_readable, host_opened };
	}
	rig_init(r);
	CHECK_EQ(virtio_console_new(&r->d, &r->env, &(struct virtio_console_config){ .ports = p, .n_ports = n_ports, .cols = 80, .rows = 25 }, NULL), 0);
	rig_up(r, rig_features(r), 16);
}

static void guest_write(struct rig *r, unsigned q, const void *text, uint32_t len)
{
	struct buf b = { rig_alloc(r, len), len, false };

	memcpy(rig_ptr(r, b.gpa), text, len);
	ring_add(r, q, &b, 1);
	ring_kick(r, q);
}

static gpa_t guest_offer(struct rig *r, unsigned q, uint32_t len)
{
	struct buf b = { rig_alloc(r, len), len, true };

	ring_add(r, q, &b, 1);
	ring_kick(r, q);
	return b.gpa;
}

TEST(one_port_needs_no_multiport)
{
	static struct host h[1];
	uint32_t id, len;
	struct rig r;
	gpa_t at;

	console_new(&r, h, 1);
	CHECK(!(rig_features(&r) & VIRTIO_BIT(F_MULTIPORT)));
	CHECK_EQ(rig_read(&r, R_NQ, 2), 2);
	CHECK(h[0].is_open);
	guest_write(&r, 1, "login: ", 7);
	CHECK_EQ(h[0].len, 7);
	CHECK_MEM(h[0].buf, "login: ", 7);
	CHECK(ring_used(&r, 1, &id, &len));
	CHECK(!virtio_console_can_receive(r.d, 0));
	CHECK_EQ(virtio_console_input(r.d, 0, (const uint8_t *)"root\n", 5), 0);
	at = guest_offer(&r, 0, 3);
	CHECK_EQ(h[0].n_readable, 1);
	CHECK_EQ(virtio_console_input(r.d, 0, (const uint8_t *)"root\n", 5), 3);
	CHECK_MEM(rig_ptr(&r, at), "roo", 3);
	CHECK(ring_used(&r, 0, &id, &len));
	CHECK_EQ(len, 3);
	at = guest_offer(&r, 0, 100);
	CHECK_EQ(h[0].n_readable, 2);
	CHECK(virtio_console_can_receive(r.d, 0));
	CHECK_EQ(virtio_console_input(r.d, 0, (const uint8_t *)"t\n", 2), 2);
	CHECK_EQ(virtio_console_input(r.d, 0, (const uint8_t *)"x", 1), 0);
	rig_write(&r, R_STATUS, 1, 0);
	rig_spin(&r);
	CHECK(!h[0].is_open);
	rig_down(&r);
}

TEST(a_host_that_finds_no_room_is_told_when_there_is)
{
	static struct host h[1];
	struct rig r;

	console_new(&r, h, 1);
	const uint8_t *avail_event = (uint8_t *)rig_ptr(&r, r.ring[0].used) + 4 + 8 * 16;

	guest_offer(&r, 0, 4);
	CHECK_EQ(virtio_console_input(r.d, 0, (const uint8_t *)"abcd", 4), 4);
	CHECK(!virtio_console_can_receive(r.d, 0));
	/* the driver looks at the event index before it rings */
	CHECK_EQ(get_le16(avail_event), 1);
	guest_offer(&r, 0, 4);
	CHECK_EQ(h[0].n_readable, 1);
	CHECK(virtio_console_can_receive(r.d, 0));
	rig_down(&r);
}

TEST(a_slow_host_stops_the_port_and_loses_nothing)
{
	static struct host h[1];
	static uint8_t text[60000];
	uint32_t id, len;
	struct rig r;

	console_new(&r, h, 1);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)(i * 7);
	h[0].room = 5000;
	guest_write(&r, 1, text, sizeof(text));
	CHECK_EQ(h[0].len, 5000);
	CHECK(!ring_used(&r, 1, &id, &len));
	CHECK_EQ(virtio_in_flight(r.d), 0);     /* nothing is held: this could be saved */
	ring_kick(&r, 1);
	CHECK_EQ(h[0].len, 5000);
	h[0].room = 1;
	virtio_console_writable(r.d, 0);
	rig_spin(&r);
	CHECK_EQ(h[0].len, 5001);
	h[0].room = SIZE_MAX;
	virtio_console_writable(r.d, 0);
	rig_spin(&r);
	CHECK_EQ(h[0].len, sizeof(text));
	CHECK_MEM(h[0].buf, text, sizeof(text));
	CHECK(ring_used(&r, 1, &id, &len));
	rig_down(&r);
}

TEST(a_reset_while_the_host_is_called_ends_cleanly)
{
	static struct host h[1];
	uint32_t id, len;
	struct rig r;

	console_new(&r, h, 1);
	h[0].reset_in_write = &r;
	guest_write(&r, 1, "abc", 3);
	CHECK_EQ(rig_read(&r, R_STATUS, 1), 0);
	CHECK(!ring_used(&r, 1, &id, &len));
	h[0].reset_in_write = NULL;
	rig_up(&r, 0, 16);
	guest_write(&r, 1, "def", 3);
	CHECK_MEM(h[0].buf, "abcdef", 6);
	rig_down(&r);
}

TEST(a_new_size_shows_in_configuration_space)
{
	static struct host h[1];
	struct rig r;

	console_new(&r, h, 1);
	CHECK_EQ(rig_read(&r, R_CFG, 2), 80);
	CHECK_EQ(rig_read(&r, R_CFG + 2, 2), 25);
	CHECK_EQ(fake_interrupts[0], 1);        /* Linux does not look unless it is told */
	virtio_console_resize(r.d, 0, 132, 50);
	CHECK_EQ(rig_read(&r, R_CFG, 4), 132 | 50 << 16);
	CHECK_EQ(fake_interrupts[0], 2);
	virtio_console_resize(r.d, 0, 132, 50);
	CHECK_EQ(fake_interrupts[0], 2);
	rig_down(&r);
}

static void control(struct rig *r, uint32_t id, uint16_t event, uint16_t value)
{
	uint8_t m[8];

	put_le32(m, id);
	put_le16(m + 4, event);
	put_le16(m + 6, value);
	guest_write(r, CTRL_TX, m, 8);
}

/* The next message of the device: event, value, port; its length. */
static uint32_t expect(struct rig *r, gpa_t *at, uint32_t id, uint16_t event, uint16_t value)
{
	uint32_t head, len;

	CHECK(ring_used(r, CTRL_RX, &head, &len));
	const uint8_t *p = rig_ptr(r, at[head]);

	CHECK_EQ(get_le32(p), id);
	CHECK_EQ(get_le16(p + 4), event);
	CHECK_EQ(get_le16(p + 6), value);
	return len;
}

TEST(ports_are_added_named_and_opened)
{
	static struct host h[3];
	uint32_t id, len;
	gpa_t at[16];
	struct rig r;

	console_new(&r, h, 3);
	CHECK_EQ(rig_read(&r, R_NQ, 2), 8);
	CHECK_EQ(rig_read(&r, R_CFG + 4, 4), 3);
	control(&r, 0, 0, 1);                   /* DEVICE_READY before there are buffers */
	for (unsigned i = 0; i < 16; i++)
		at[i] = guest_offer(&r, CTRL_RX, 128);
	for (unsigned i = 0; i < 3; i++)
		expect(&r, at, i, 1, 1);
	control(&r, 0, 3, 1);
	expect(&r, at, 0, 4, 1);
	CHECK_EQ(expect(&r, at, 0, 5, 1), 12);  /* RESIZE */
	expect(&r, at, 0, 6, 1);
	control(&r, 1, 3, 1);
	CHECK_EQ(expect(&r, at, 1, 7, 1), 8 + strlen("org.viv.agent"));
	CHECK_MEM((uint8_t *)rig_ptr(&r, at[6]) + 8, "org.viv.agent", 13);
	expect(&r, at, 1, 6, 1);
	/* data for port 1 waits until a program opens it */
	guest_offer(&r, 4, 10);
	CHECK_EQ(virtio_console_input(r.d, 1, (const uint8_t *)"x", 1), 0);
	control(&r, 1, 6, 1);
	CHECK(h[1].is_open);
	CHECK_EQ(virtio_console_input(r.d, 1, (const uint8_t *)"x", 1), 1);
	CHECK(ring_used(&r, 4, &id, &len));
	guest_write(&r, 5, "pong", 4);
	CHECK_MEM(h[1].buf, "pong", 4);
	CHECK_EQ(h[0].len, 0);
	virtio_console_set_open(r.d, 1, false);
	expect(&r, at, 1, 6, 0);
	control(&r, 1, 6, 0);
	CHECK(!h[1].is_open);
	CHECK_EQ(h[1].n_opened, 2);
	rig_down(&r);
}

/* What RESIZE carries behind its header: columns, then rows (5.3.6.2). */
static void expect_size(struct rig *r, gpa_t *at, uint32_t id, unsigned n, uint16_t cols, uint16_t rows)
{
	const uint8_t *size = (uint8_t *)rig_ptr(r, at[n]) + 8;

	CHECK_EQ(expect(r, at, id, 5, 1), 12);
	CHECK_EQ(get_le16(size), cols);
	CHECK_EQ(get_le16(size + 2), rows);
}

TEST(ports_without_a_name_are_consoles_and_have_a_size_of_their_own)
{
	static struct host h[3];
	uint32_t id, len;
	gpa_t at[16];
	struct rig r;

	console_new(&r, h, 3);
	for (unsigned i = 0; i < 16; i++)
		at[i] = guest_offer(&r, CTRL_RX, 128);
	control(&r, 0, 3, 1);
	expect(&r, at, 0, 4, 1);
	expect_size(&r, at, 0, 1, 80, 25);
	expect(&r, at, 0, 6, 1);
	control(&r, 2, 3, 1);
	expect(&r, at, 2, 4, 1);                /* its size is not known yet */
	expect(&r, at, 2, 6, 1);
	virtio_console_resize(r.d, 2, 132, 50);
	expect_size(&r, at, 2, 5, 132, 50);
	CHECK_EQ(rig_read(&r, R_CFG, 4), 80 | 25 << 16);
	control(&r, 1, 3, 1);
	expect(&r, at, 1, 7, 1);
	expect(&r, at, 1, 6, 1);
	virtio_console_resize(r.d, 1, 132, 50); /* a byte stream has no size */
	CHECK(!ring_used(&r, CTRL_RX, &id, &len));
	rig_down(&r);
}

TEST(a_device_of_streams_alone_announces_no_first_port)
{
	static struct host h;
	struct virtio_console_port p[2] = {
		{ .name = NULL }, { "org.viv.log", &h, host_write, host_readable, host_opened },
	};
	uint32_t id, len;
	struct rig r;

	h = (struct host){ .room = SIZE_MAX };
	rig_init(&r);
	CHECK_EQ(virtio_console_new(&r.d, &r.env, &(struct virtio_console_config){ .ports = p, .n_ports = 2, .has_no_first = true },
				    NULL), 0);
	rig_up(&r, rig_features(&r), 16);
	gpa_t at = guest_offer(&r, 2, 64);

	guest_offer(&r, 2, 64);
	guest_write(&r, 3, "\0\0\0\0\0\0\1\0", 8);   /* DEVICE_READY */
	CHECK(ring_used(&r, 2, &id, &len));
	CHECK_MEM(rig_ptr(&r, at), "\1\0\0\0\1\0\1\0", 8);   /* PORT_ADD of port 1 */
	guest_write(&r, 3, "\0\0\0\0\3\0\1\0", 8);   /* port 0 is ready: which? */
	CHECK(!ring_used(&r, 2, &id, &len));
	rig_down(&r);
}

TEST(senseless_control_messages_are_ignored)
{
	static struct host h[3];
	uint32_t id, len;
	struct rig r;

	console_new(&r, h, 3);
	control(&r, 3, 3, 1);
	control(&r, 0xffffffff, 6, 1);
	control(&r, 1, 99, 1);
	control(&r, 1, 6, 7);
	guest_write(&r, CTRL_TX, "short", 5);
	for (unsigned i = 0; i < 5; i++)
		CHECK(ring_used(&r, CTRL_TX, &id, &len));
	CHECK(!rig_is_broken(&r));
	CHECK_EQ(h[1].n_opened, 0);
	rig_down(&r);
}

TEST(impossible_consoles_are_refused_with_a_sentence)
{
	struct virtio_console_port p[2] = { { 0 }, { .name = "" } };
	struct err err = ERR_INIT;
	struct virtio_dev *d;
	struct rig r;

	rig_init(&r);
	CHECK_EQ(virtio_console_new(&d, &r.env, &(struct virtio_console_config){ .ports = p, .n_ports = 2 }, &err), -EINVAL);
	CHECK_HAS(err.msg, "must have 1 to 63 bytes");
	p[0].name = "agent";
	CHECK_EQ(virtio_console_new(&d, &r.env, &(struct virtio_console_config){ .ports = p, .n_ports = 1 }, &err), -EINVAL);
	CHECK_HAS(err.msg, "it has no name");
	CHECK_EQ(virtio_console_new(&d, &r.env, &(struct virtio_console_config){ .ports = p, .n_ports = 0 }, &err), -EINVAL);
	CHECK_HAS(err.msg, "1 to 16 ports");
	rig_down(&r);
}
