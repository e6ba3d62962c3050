/* SPDX-License-Identifier: Apache-2.0 */
/* null.c - a network that nobody is connected to: frames go nowhere, none come. */
#include <errno.h>
#include <unistd.h>
#include "net/net_priv.h"
#include "util/err.h"

static int null_send(struct net *n, const struct iovec *iov, int n_iov)
{
	return 0;
}

static void null_close(struct net *n)
{
	free(n);
}

static int null_open(struct net **out, struct loop *loop, struct net_client *client,
		     const struct net_options *o, struct err *err)
{
	struct net *n = calloc(1, sizeof(*n));

	if (!n)
		return err_set(err, -ENOMEM, "out of memory");
	*n = (struct net){ .ops = &net_null_ops, .loop = loop, .client = client };
	*out = n;
	return 0;
}

static int null_fd(const struct net *n)
{
	return -ENOENT;
}

const struct net_ops net_null_ops = {
	.kind = "none",
	.open = null_open,
	.send = null_send,
	.fd = null_fd,
	.close = null_close,
};
