/* SPDX-License-Identifier: Apache-2.0 */
/* http_adopt.c - a Unix socket that somebody else listens on, as systemd does. libwebsockets takes no such one: connections are
 * accepted on the loop thread, and given to it on its own. */
#include "api/http_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "util/checked.h"
#include "util/err.h"
#include "util/loop.h"

enum { AGAIN_MS = 100 };

struct adoption {
	struct http_post post;          /* first */
	struct lws_vhost *vhost;
	int fd;
};

/* Service thread. */
static void adopt(struct http_post *p)
{
	struct adoption *a = container_of(p, struct adoption, post);

	/* It is closed when that fails. */
	(void)lws_adopt_socket_vhost(a->vhost, a->fd);
	free(a);
}

static void on_connection(struct loop_fd *h, unsigned events)
{
	struct http_server *s = container_of(h, struct http_server, adopted);

	(void)events;
	for (;;) {
		int fd = accept4(h->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct adoption *a = fd >= 0 ? malloc(sizeof(*a)) : NULL;

		if (fd >= 0 && !a)
			close(fd);
		if (!a && fd < 0 && (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR))
			return;
		if (!a) { /* out of descriptors or memory: whoever waits goes on waiting */
			loop_fd_mod(h, 0);
			loop_timer_set(&s->adopt_again, loop_after_ms(AGAIN_MS));
			return;
		}
		*a = (struct adoption){ .post.run = adopt, .vhost = s->adopting, .fd = fd };
		http_post(s, &a->post);
	}
}

static void again(struct loop_timer *t)
{
	loop_fd_mod(&container_of(t, struct http_server, adopt_again)->adopted, LOOP_IN);
}

int http_adopt_listener(struct http_server *s, int fd, const struct lws_protocols *protocols, struct err *err)
{
	struct lws_context_creation_info info = { .port = CONTEXT_PORT_NO_LISTEN_SERVER, .protocols = protocols, .vhost_name = "adopted" };

	s->adopting = lws_create_vhost(s->lws, &info);
	if (!s->adopting)
		return err_set(err, -ENOMEM, "out of memory");
	loop_timer_init(s->loop, &s->adopt_again, again);
	return loop_fd_add(s->loop, &s->adopted, fd, LOOP_IN, on_connection);
}
