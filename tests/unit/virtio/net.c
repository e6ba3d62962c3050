/* SPDX-License-Identifier: Apache-2.0 */
/* The network device over a fake backend. */
#include "net/net.h"

#include <errno.h>
#include <linux/if_tun.h>
#include "driver.h"
#include "test.h"
#include "util/endian.h"
#include "util/err.h"
#include "virtio/device.h"
#include "virtio/net.h"

enum { RX = 0, TX = 1, CTRL = 2, F_MRG = 15, F_CTRL_VQ = 17, F_CTRL_RX = 18, F_ANNOUNCE = 21, F_MAC_ADDR = 23, F_GUEST_CSUM = 1,
       F_GUEST_TSO4 = 7, F_OFFLOADS = 2 };

struct net {
	struct net_client *client;
	bool has_hdr, is_full;
	uint8_t sent[70000];
	size_t sent_len;
	unsigned n_sent, n_resumed, tun_f;
};
static struct net fake;

int net_open(struct net **out, struct loop *loop, struct net_client *client,
	     const struct net_options *o, struct err *err)
{
	fake.client = client;
	*out = &fake;
	return 0;
}
void net_close(struct net *n) { n->client = NULL; }
bool net_has_vnet_hdr(const struct net *n) { return n->has_hdr; }
void net_set_offload(struct net *n, unsigned tun_f) { n->tun_f = tun_f; }
int net_fd(const struct net *n) { return -1; }
void net_settle(struct net *n) { }
void net_forget(struct net *n) { }
int net_give_metadata(struct net *n, int fd) { return -ENOTSUP; }
void net_rx_resume(struct net *n) { n->n_resumed++; }

int net_send(struct net *n, const struct iovec *iov, int n_iov)
{
	if (n->is_full)
		return -EAGAIN;
	n->sent_len = 0;
	for (int i = 0; i < n_iov; i++) {
		memcpy(n->sent + n->sent_len, iov[i].iov_base, iov[i].iov_len);
		n->sent_len += iov[i].iov_len;
	}
	n->n_sent++;
	return 0;
}

static const uint8_t my_mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };

static void nic_up(struct rig *r, bool has_hdr, uint64_t features)
{
	struct net_options o = { .kind = "user", .fd = -1 };
	struct virtio_net_config cfg = { .mtu = 1400, .backend = &o };

	memcpy(cfg.mac, my_mac, 6);
	fake.has_hdr = has_hdr;
	rig_init(r);
	CHECK_EQ(virtio_net_new(&r->d, &r->env, &cfg, NULL), 0);
	rig_up(r, features, 16);
}

static gpa_t offer(struct rig *r, uint32_t len)
{
	struct buf b = { rig_alloc(r, len), len, true };

	ring_add(r, RX, &b, 1);
	return b.gpa;
}

static void receive(const uint8_t *frame, size_t len)
{
	if (fake.client->can_receive(fake.client))
		fake.client->receive(fake.client, frame, len);
}

TEST(a_frame_goes_out_without_its_header)
{
	uint32_t id, len;
	struct rig r;

	nic_up(&r, false, 0);
	gpa_t at = rig_alloc(&r, 200);

	for (unsigned i = 0; i < 112; i++)
		((uint8_t *)rig_ptr(&r, at))[i] = (uint8_t)i;
	/* the header is not alone in its buffer, nor whole */
	struct buf b[3] = { { at, 5, false }, { at + 5, 50, false }, { at + 55, 57, false } };

	ring_add(&r, TX, b, 3);
	ring_kick(&r, TX);
	CHECK_EQ(fake.n_sent, 1);
	CHECK_EQ(fake.sent_len, 100);
	CHECK_EQ(fake.sent[0], 12);
	CHECK_EQ(fake.sent[99], 111);
	CHECK(ring_used(&r, TX, &id, &len));
	CHECK_EQ(len, 0);
	b[0].len = 12;
	ring_add(&r, TX, b, 1);                 /* only a header: given back, not sent */
	ring_kick(&r, TX);
	CHECK(ring_used(&r, TX, &id, &len));
	CHECK_EQ(fake.n_sent, 1);
	rig_down(&r);
}

TEST(a_full_backend_holds_frames_back_in_the_ring)
{
	uint32_t id, len;
	struct rig r;

	nic_up(&r, false, 0);
	struct buf b = { rig_alloc(&r, 200), 112, false };

	fake.is_full = true;
	ring_add(&r, TX, &b, 1);
	ring_add(&r, TX, &b, 1);
	ring_kick(&r, TX);
	CHECK(!ring_used(&r, TX, &id, &len));
	CHECK_EQ(virtio_in_flight(r.d), 0);
	fake.is_full = false;
	fake.client->writable(fake.client);
	rig_spin(&r);
	CHECK_EQ(fake.n_sent, 2);
	CHECK(ring_used(&r, TX, &id, &len) && ring_used(&r, TX, &id, &len));
	rig_down(&r);
}

TEST(a_received_frame_gets_a_header_with_one_buffer)
{
	uint8_t frame[100] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 9 };
	uint32_t id, len;
	struct rig r;

	nic_up(&r, false, 0);
	gpa_t at = offer(&r, 1526);

	receive(frame, sizeof(frame));
	CHECK(ring_used(&r, RX, &id, &len));
	CHECK_EQ(len, 112);
	CHECK_EQ(get_le16((uint8_t *)rig_ptr(&r, at) + 10), 1);
	CHECK_MEM((uint8_t *)rig_ptr(&r, at) + 12, frame, 100);
	CHECK_EQ(fake_interrupts[1], 1);
	rig_down(&r);
}

TEST(a_large_frame_is_spread_over_merged_buffers)
{
	static uint8_t frame[5000];
	uint32_t id, len;
	struct rig r;
	gpa_t at[4];

	nic_up(&r, false, VIRTIO_BIT(F_MRG));
	for (size_t i = 0; i < sizeof(frame); i++)
		frame[i] = (uint8_t)(i * 13);
	for (int i = 0; i < 3; i++)
		at[i] = offer(&r, 1526);
	receive(frame, sizeof(frame));          /* 5012 bytes need four */
	CHECK(!ring_used(&r, RX, &id, &len));
	CHECK(!fake.client->can_receive(fake.client));
	unsigned resumed = fake.n_resumed;

	at[3] = offer(&r, 1526);
	ring_kick(&r, RX);
	CHECK_EQ(fake.n_resumed, resumed + 1);
	CHECK(fake.client->can_receive(fake.client));
	CHECK_EQ(get_le16((uint8_t *)rig_ptr(&r, at[0]) + 10), 4);
	for (size_t i = 0, off = 0; i < 4; i++) {
		CHECK(ring_used(&r, RX, &id, &len));
		CHECK_EQ(id, i);
		size_t skip = i ? 0 : 12;

		CHECK_MEM((uint8_t *)rig_ptr(&r, at[i]) + skip, frame + off, len - skip);
		off += len - skip;
		CHECK_EQ(len, i < 3 ? 1526 : 5012 - 3 * 1526);
	}
	rig_down(&r);
}

TEST(a_frame_too_large_for_its_buffer_is_lost_alone)
{
	static uint8_t frame[3000];
	uint32_t id, len;
	struct rig r;

	nic_up(&r, false, 0);
	offer(&r, 1526);
	receive(frame, 3000);
	CHECK(!ring_used(&r, RX, &id, &len));
	receive(frame, 1514);
	CHECK(ring_used(&r, RX, &id, &len));
	CHECK_EQ(len, 1526);
	CHECK(!rig_is_broken(&r));
	rig_down(&r);
}

TEST(frames_of_impossible_length_are_dropped)
{
	static uint8_t frame[80000];
	struct rig r;

	nic_up(&r, false, VIRTIO_BIT(F_MRG));
	offer(&r, 65536);
	offer(&r, 65536);
	receive(frame, 13);
	receive(frame, 70000);
	CHECK(fake.client->can_receive(fake.client));
	uint32_t id, len;

	CHECK(!ring_used(&r, RX, &id, &len));
	rig_down(&r);
}

static unsigned command(struct rig *r, const void *cmd, uint32_t cmd_len)
{
	struct buf b[2] = { { rig_alloc(r, cmd_len), cmd_len, false }, { rig_alloc(r, 1), 1, true } };

	memcpy(rig_ptr(r, b[0].gpa), cmd, cmd_len);
	*(uint8_t *)rig_ptr(r, b[1].gpa) = 0xee;
	ring_add(r, CTRL, b, 2);
	ring_kick(r, CTRL);
	return *(uint8_t *)rig_ptr(r, b[1].gpa);
}

static bool passes(struct rig *r, const uint8_t dst[6])
{
	uint8_t frame[60] = { 0 };
	uint32_t id, len;

	memcpy(frame, dst, 6);
	receive(frame, sizeof(frame));
	return ring_used(r, RX, &id, &len);
}

TEST(the_filter_does_what_the_control_queue_says)
{
	static const uint8_t other[6] = { 2, 0, 0, 0, 0, 1 }, group[6] = { 1, 0, 0x5e, 0, 0, 1 };
	static const uint8_t broadcast[6] = { 255, 255, 255, 255, 255, 255 };
	uint8_t table[2 + 4 + 6 + 4 + 6] = { 1, 0, 1, 0, 0, 0 };
	struct rig r;

	nic_up(&r, false, 1ull << F_CTRL_VQ | VIRTIO_BIT(F_CTRL_RX) | VIRTIO_BIT(F_MAC_ADDR));
	for (int i = 0; i < 12; i++)
		offer(&r, 1526);
	CHECK(passes(&r, other));
	CHECK_EQ(command(&r, "\0\0\0", 3), 0);          /* promiscuous off */
	CHECK(!passes(&r, other));
	CHECK(!passes(&r, group));
	CHECK(passes(&r, my_mac));
	CHECK(passes(&r, broadcast));
	memcpy(table + 6, other, 6);
	table[12] = 1;
	memcpy(table + 16, group, 6);
	CHECK_EQ(command(&r, table, sizeof(table)), 0);
	CHECK(passes(&r, other));
	CHECK(passes(&r, group));
	CHECK_EQ(command(&r, table, sizeof(table) - 1), 1);
	CHECK_EQ(command(&r, "\1\1\2\0\0\0\0\7", 8), 0); /* another address */
	CHECK(!passes(&r, my_mac));
	CHECK_EQ(rig_read(&r, R_CFG + 5, 1), 7);
	CHECK_EQ(command(&r, "\0\5\1", 3), 0);          /* no broadcast */
	CHECK(!passes(&r, broadcast));
	CHECK_EQ(command(&r, "\0\6\1", 3), 1);
	CHECK_EQ(command(&r, "\0", 1), 1);
	CHECK_EQ(command(&r, "\4\0\1\0", 4), 1);        /* queue pairs: not offered */
	table[2] = table[3] = table[4] = table[5] = 0xff;
	CHECK_EQ(command(&r, table, sizeof(table)), 1);
	rig_up(&r, 0, 16);                              /* a reset brings all of it back */
	offer(&r, 1526);
	CHECK_EQ(rig_read(&r, R_CFG + 5, 1), 3);
	CHECK(passes(&r, other));
	rig_down(&r);
}

TEST(offloads_are_offered_only_with_a_header_and_reach_the_backend)
{
	uint8_t cmd[10] = { 5, 0, 1 << F_GUEST_CSUM };
	struct rig r;

	nic_up(&r, false, 0);
	CHECK(!(rig_features(&r) & (VIRTIO_BIT(0) | VIRTIO_BIT(F_GUEST_TSO4))));
	rig_down(&r);
	nic_up(&r, true, VIRTIO_BIT(F_GUEST_CSUM) | VIRTIO_BIT(F_GUEST_TSO4) | 1ull << F_CTRL_VQ |
	       VIRTIO_BIT(F_OFFLOADS));
	CHECK_EQ(fake.tun_f, TUN_F_CSUM | TUN_F_TSO4);
	CHECK_EQ(command(&r, cmd, 10), 0);
	CHECK_EQ(fake.tun_f, TUN_F_CSUM);
	cmd[3] = 1;                                     /* TSO6 was not negotiated */
	CHECK_EQ(command(&r, cmd, 10), 1);
	/* the header passes through both ways, but for the number of buffers */
	uint8_t frame[112] = { 1, 2, 3 };
	uint32_t id, len;
	gpa_t at = offer(&r, 1526);

	receive(frame, sizeof(frame));
	CHECK(ring_used(&r, RX, &id, &len));
	CHECK_EQ(len, 112);
	CHECK_MEM(rig_ptr(&r, at), "\1\2\3\0\0\0\0\0\0\0\1\0", 12);
	struct buf b = { at, 112, false };

	ring_add(&r, TX, &b, 1);
	ring_kick(&r, TX);
	CHECK_EQ(fake.sent_len, 112);
	CHECK_EQ(fake.sent[0], 1);
	rig_down(&r);
}

TEST(a_driver_that_is_restored_on_a_plain_network_keeps_its_offloads)
{
	struct virtio_section sec[VIRTIO_SECTIONS_MAX] = { 0 };
	uint32_t id, len;
	struct rig r;

	nic_up(&r, false, 0);
	gpa_t at = rig_alloc(&r, 200);
	uint8_t *p = rig_ptr(&r, at);

	memset(p, 0, 12);
	p[0] = 1;                                       /* a checksum from byte 34 on, to byte 40 */
	put_le16(p + 6, 34);
	put_le16(p + 8, 6);
	memset(p + 12, 0xab, 100);
	virtio_sections(r.d, sec);
	for (unsigned i = 0; i < VIRTIO_SECTIONS_MAX; i++)
		if (sec[i].desc && !strcmp(sec[i].desc->name, "virtio"))
			((struct virtio_state *)sec[i].state)->driver_features |= 1;
	CHECK_EQ(virtio_restored(r.d, NULL), 0);
	CHECK(!(rig_features(&r) & 1));
	rig_spin(&r);
	struct buf b = { at, 112, false };

	ring_add(&r, TX, &b, 1);
	ring_kick(&r, TX);
	CHECK(ring_used(&r, TX, &id, &len));
	CHECK_EQ(fake.sent_len, 100);
	CHECK(get_be16(fake.sent + 40) != 0xabab);
	CHECK_EQ(fake.sent[39], 0xab);
	rig_down(&r);
}

TEST(a_pulled_cable_shows_and_lets_nothing_in)
{
	struct rig r;

	nic_up(&r, false, 0);
	CHECK_EQ(rig_read(&r, R_CFG + 6, 2), 1);
	CHECK_EQ(rig_read(&r, R_CFG + 10, 2), 1400);
	offer(&r, 1526);
	virtio_net_set_link(r.d, false);
	CHECK_EQ(rig_read(&r, R_CFG + 6, 2), 0);
	CHECK_EQ(fake_interrupts[0], 1);
	CHECK(!passes(&r, my_mac));
	virtio_net_set_link(r.d, true);
	CHECK(passes(&r, my_mac));
	rig_down(&r);
}

TEST(a_restored_driver_is_asked_to_announce_itself_and_acknowledges)
{
	struct virtio_section sec[VIRTIO_SECTIONS_MAX];
	struct rig r;

	nic_up(&r, false, 1ull << F_CTRL_VQ | 1ull << F_ANNOUNCE);
	CHECK_EQ(rig_read(&r, R_CFG + 6, 2), 1);
	CHECK_EQ(virtio_sections(r.d, sec), 3);
	CHECK_EQ(virtio_restored(r.d, NULL), 0);
	CHECK_EQ(rig_read(&r, R_CFG + 6, 2), 3);
	CHECK_EQ(fake_interrupts[0], 1);
	CHECK_EQ(command(&r, "\3\1", 2), 1);
	CHECK_EQ(command(&r, "\3\0", 2), 0);
	CHECK_EQ(rig_read(&r, R_CFG + 6, 2), 1);
	rig_down(&r);
}

TEST(a_copy_gets_the_address_of_its_device_and_its_cable_is_pulled)
{
	struct virtio_section sec[VIRTIO_SECTIONS_MAX];
	struct rig r;

	nic_up(&r, false, 1ull << F_CTRL_VQ | 1ull << F_MAC_ADDR);
	CHECK_EQ(command(&r, "\1\1\2\1\1\1\1\1", 8), 0);
	CHECK_EQ(rig_read(&r, R_CFG, 1), 2);
	virtio_net_renew(r.d);
	CHECK_EQ(rig_read(&r, R_CFG, 1), my_mac[0]);
	CHECK_EQ(rig_read(&r, R_CFG + 6, 2), 0);
	CHECK_EQ(virtio_sections(r.d, sec), 3);
	CHECK_EQ(virtio_restored(r.d, NULL), 0);        /* a copy of the copy is not left without */
	for (int i = 0; i < 400 && !rig_read(&r, R_CFG + 6, 2); i++) {
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
		rig_spin(&r);
	}
	CHECK_EQ(rig_read(&r, R_CFG + 6, 2), 1);
	rig_down(&r);
}

TEST(frames_before_the_driver_are_taken_and_dropped)
{
	uint8_t frame[60] = { 0 };
	struct rig r;

	nic_up(&r, false, 0);
	rig_write(&r, R_STATUS, 1, 0);
	rig_spin(&r);
	receive(frame, sizeof(frame));
	CHECK(fake.client->can_receive(fake.client));
	virtio_pause(r.d);
	CHECK(!fake.client->can_receive(fake.client));
	rig_down(&r);
}

TEST(impossible_configurations_are_refused_with_a_sentence)
{
	struct net_options o = { .kind = "user" };
	struct virtio_net_config cfg = { .mac = { 1 }, .backend = &o };
	struct err err = ERR_INIT;
	struct virtio_dev *d;
	struct rig r;

	rig_init(&r);
	CHECK_EQ(virtio_net_new(&d, &r.env, &cfg, &err), -EINVAL);
	CHECK_HAS(err.msg, "group address");
	cfg.mac[0] = 2;
	cfg.mtu = 67;
	CHECK_EQ(virtio_net_new(&d, &r.env, &cfg, &err), -EINVAL);
	CHECK_HAS(err.msg, "below 68");
	rig_down(&r);
}
