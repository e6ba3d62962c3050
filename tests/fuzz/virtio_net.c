/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net before a hostile driver (virtio_rig.h), over a fake backend that delivers and refuses
 * frames as the input wants. */
#include "virtio/net.h"

#include <errno.h>
#include "net/net.h"
#include "virtio_rig.h"

struct net {
	struct net_client *client;
	bool has_hdr, is_full, was_refused;
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
void net_set_offload(struct net *n, unsigned tun_f) {}
int net_fd(const struct net *n) { return -1; }
void net_settle(struct net *n) { }
void net_forget(struct net *n) { }
int net_give_metadata(struct net *n, int fd) { return -1; }
void net_rx_resume(struct net *n) {}

int net_send(struct net *n, const struct iovec *iov, int n_iov)
{
	static uint8_t sink[NET_FRAME_MAX];
	size_t len = 0;

	FUZZ_CHECK(n->client && n_iov >= 0);
	if (n->is_full) {
		n->was_refused = true;
		return -EAGAIN;
	}
	for (int i = 0; i < n_iov; i++) {       /* every byte must be readable */
		size_t take = iov[i].iov_len < sizeof(sink) ? iov[i].iov_len : sizeof(sink);

		memcpy(sink, iov[i].iov_base, take);
		len += iov[i].iov_len;
	}
	return len > NET_FRAME_MAX ? -EMSGSIZE : 0;
}

static struct virtio_dev *make(struct rig *r, uint8_t options)
{
	struct net_options o = { .kind = "none", .fd = -1 };
	struct virtio_net_config cfg = { .mac = { 0x52, 0x54, 0, 1, 2, 3 }, .mtu = 1500, .backend = &o };
	struct virtio_dev *d = NULL;

	fake = (struct net){ .has_hdr = options & 2 };
	FUZZ_CHECK(virtio_net_new(&d, &r->env, &cfg, NULL) == 0);
	return d;
}

static void receive(struct rig *r)
{
	static uint8_t frame[NET_FRAME_MAX];
	size_t least = fake.has_hdr ? NET_VNET_HDR + 1 : 1, len = least + fuzz_u16(&r->f) % (sizeof(frame) - least);

	memset(frame, 0, sizeof(frame));
	fuzz_fill(&r->f, frame, 26);
	if (fake.client->can_receive(fake.client))
		fake.client->receive(fake.client, frame, len);
}

static void outside(struct rig *r)
{
	uint8_t what = fuzz_u8(&r->f);

	switch (what & 7) {
	case 0:
		fake.is_full = true;
		break;
	case 1:
		fake.is_full = false;
		if (fake.was_refused) {
			fake.was_refused = false;
			fake.client->writable(fake.client);
		}
		break;
	case 2:
		virtio_net_set_link(r->d, what & 8);
		break;
	default:
		receive(r);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct rig_target target = { .make = make, .outside = outside };

	return rig_run(&target, data, len);
}
