/* SPDX-License-Identifier: Apache-2.0 */
#include "net/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include "net/net_priv.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/str.h"

static const struct net_ops *const backends[] = { &net_user_ops, &net_tap_ops, &net_null_ops };

int net_open(struct net **out, struct loop *loop, struct net_client *client,
	     const struct net_options *o, struct err *err)
{
	for (unsigned i = 0; i < ARRAY_LEN(backends); i++)
		if (!strcmp(backends[i]->kind, o->kind))
			return backends[i]->open(out, loop, client, o, err);
	return err_set(err, -EINVAL, "there is no network backend '%s'; there are user, tap and none", o->kind);
}

void net_close(struct net *n)
{
	if (n)
		n->ops->close(n);
}

bool net_has_vnet_hdr(const struct net *n)
{
	return n->has_vnet_hdr;
}

void net_set_offload(struct net *n, unsigned tun_f)
{
	if (n->ops->set_offload)
		n->ops->set_offload(n, tun_f);
}

int net_fd(const struct net *n)
{
	return n->ops->fd ? n->ops->fd(n) : -ENOTSUP;
}

void net_settle(struct net *n)
{
	if (n->ops->settle)
		n->ops->settle(n);
}

void net_forget(struct net *n)
{
	if (n->ops->forget)
		n->ops->forget(n);
}

int net_send(struct net *n, const struct iovec *iov, int n_iov)
{
	return n->ops->send(n, iov, n_iov);
}

int net_give_metadata(struct net *n, int fd)
{
	return n->ops->give_metadata ? n->ops->give_metadata(n, fd) : -ENOTSUP;
}

void net_rx_resume(struct net *n)
{
	if (n->ops->rx_resume)
		n->ops->rx_resume(n);
}

/* ---- port forwards: PROTOCOL:[HOST-ADDRESS:]HOST-PORT:GUEST-PORT ---- */

static int net_parse_port(uint16_t *out, const char *text, const char *what, const char *whole, struct err *err)
{
	uint64_t v;

	if (str_parse_u64(&v, text, NULL) < 0 || !v || v > UINT16_MAX)
		return err_set(err, -EINVAL, "forward '%s': %s port '%s' is not a number from 1 to 65535",
			       whole, what, text);
	*out = (uint16_t)v;
	return 0;
}

/* A numeric address; IPv6 stands in brackets because of its colons. */
static int net_parse_addr(char out[46], char *text, const char *whole, struct err *err)
{
	size_t len = strlen(text);
	uint8_t bin[16];

	if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
		text[len - 1] = '\0';
		if (inet_pton(AF_INET6, text + 1, bin) == 1) {
			strcpy(out, text + 1);  /* at most 45 characters, or it had not parsed */
			return 0;
		}
	} else if (!len) {
		out[0] = '\0';
		return 0;
	} else if (inet_pton(AF_INET, text, bin) == 1) {
		strcpy(out, text);
		return 0;
	}
	return err_set(err, -EINVAL, "forward '%s': the host address is not numeric, like 127.0.0.1 or [::1]", whole);
}

int net_forward_parse(struct net_forward *out, const char *text, struct err *err)
{
	struct net_forward f = { 0 };
	char buf[96], *addr, *host, *guest;

	if (strlen(text) >= sizeof(buf))
		return err_set(err, -EINVAL, "forward '%.40s...' is too long", text);
	strcpy(buf, text);
	addr = strchr(buf, ':');
	guest = strrchr(buf, ':');
	if (!addr || addr == guest)
		return err_set(err, -EINVAL, "forward '%s' is not like tcp:2222:22 or tcp:127.0.0.1:2222:22", text);
	*addr++ = '\0';
	*guest++ = '\0';
	if (strcmp(buf, "tcp") && strcmp(buf, "udp"))
		return err_set(err, -EINVAL, "forward '%s': the protocol is tcp or udp, not '%s'", text, buf);
	f.is_udp = buf[0] == 'u';
	host = strrchr(addr, ':');
	if (host) {
		*host++ = '\0';
	} else {
		host = addr;
		addr = addr + strlen(addr);
	}
	int r = net_parse_addr(f.host_addr, addr, text, err);

	if (!r)
		r = net_parse_port(&f.host_port, host, "host", text, err);
	if (!r)
		r = net_parse_port(&f.guest_port, guest, "guest", text, err);
	if (!r)
		*out = f;
	return r;
}
