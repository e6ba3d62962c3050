/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "util/err.h"
#include "util/loop.h"

enum {
	PIECE = 64 << 10,
	GREET_MS = 5000,
	PATH_LEN = 4096,
	WELCOME = 'V',          /* what the accepting side says first: a client learns here that its certificate is accepted */
};

struct tls {
	SSL_CTX *ctx;
};

struct tls_conn {
	SSL *ssl;
	int fd;
};

/* --- certificates --- */

/* OpenSSL's reason for what has just failed. */
static const char *tls_reason(void)
{
	const char *text = ERR_reason_error_string(ERR_peek_last_error());

	return text ? text : "the connection broke";
}

static int tls_load(SSL_CTX *ctx, const char *folder, struct err *err)
{
	static const char *const names[] = { "ca.pem", "cert.pem", "key.pem" };
	char path[PATH_LEN];

	for (int i = 0; i < 3; i++) {
		if ((size_t)snprintf(path, sizeof(path), "%s/%s", folder, names[i]) >= sizeof(path))
			return err_set(err, -ENAMETOOLONG, "'%s' is too long", folder);
		ERR_clear_error();
		int ok = !i ? SSL_CTX_load_verify_file(ctx, path) :
			 i == 1 ? SSL_CTX_use_certificate_chain_file(ctx, path) :
				  SSL_CTX_use_PrivateKey_file(ctx, path, SSL_FILETYPE_PEM);
		if (ok != 1)
			return err_set(err, -EINVAL, "cannot use '%s': %s", path, tls_reason());
	}
	return SSL_CTX_check_private_key(ctx) == 1 ? 0 :
	       err_set(err, -EINVAL, "the key in '%s' does not belong to the certificate beside it", path);
}

int tls_open(struct tls **out, const char *folder, struct err *err)
{
	AUTO(tls_close) struct tls *t = calloc(1, sizeof(*t));

	if (t)
		t->ctx = SSL_CTX_new(TLS_method());
	if (!t || !t->ctx)
		return err_set(err, -ENOMEM, "out of memory");
	SSL_CTX_set_min_proto_version(t->ctx, TLS1_3_VERSION);
	SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(t->ctx, 0);
	SSL_CTX_set_mode(t->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	int r = tls_load(t->ctx, folder, err);
	if (r < 0)
		return r;
	*out = take_ptr(&t);
	return 0;
}

void tls_close(struct tls *t)
{
	if (!t)
		return;
	SSL_CTX_free(t->ctx);
	free(t);
}

/* --- the greeting --- */

static void tls_no_wait(int fd)
{
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* What R, from SSL_*(), is to be waited for: POLLIN, POLLOUT; 0: nothing helps. */
static short tls_wanted(const SSL *ssl, int r)
{
	int e = SSL_get_error(ssl, r);

	return e == SSL_ERROR_WANT_READ ? POLLIN : e == SSL_ERROR_WANT_WRITE ? POLLOUT : 0;
}

static int tls_refused(const struct tls_conn *c, struct err *err)
{
	long v = SSL_get_verify_result(c->ssl);

	return v == X509_V_OK ? err_set(err, -EACCES, "TLS: %s", tls_reason()) :
	       err_set(err, -EACCES, "TLS: the other side's certificate is not accepted: %s", X509_verify_cert_error_string(v));
}

static int tls_welcome(struct tls_conn *c, bool is_client)
{
	char byte = WELCOME;
	int r = is_client ? SSL_read(c->ssl, &byte, 1) : SSL_write(c->ssl, &byte, 1);

	return r == 1 && byte != WELCOME ? -1 : r;
}

static int tls_handshake(struct tls_conn *c, bool is_client, struct err *err)
{
	uint64_t end = loop_now_ns() + GREET_MS * 1000000ull, now;
	bool is_shaken = false;

	while ((now = loop_now_ns()) < end) {
		ERR_clear_error();
		int r = is_shaken ? tls_welcome(c, is_client) : is_client ? SSL_connect(c->ssl) : SSL_accept(c->ssl);

		if (r == 1 && is_shaken)
			return 0;
		is_shaken |= r == 1;
		if (r == 1)
			continue;
		struct pollfd p = { .fd = c->fd, .events = tls_wanted(c->ssl, r) };
		if (!p.events)
			return tls_refused(c, err);
		(void)poll(&p, 1, (int)((end - now) / 1000000) + 1);
	}
	return err_set(err, -ETIMEDOUT, "TLS: the other side does not answer");
}

static int tls_expect(struct tls_conn *c, const char *peer, struct err *err)
{
	X509_VERIFY_PARAM *p = SSL_get0_param(c->ssl);

	SSL_set_hostflags(c->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (X509_VERIFY_PARAM_set1_ip_asc(p, peer) == 1)
		return 0;
	(void)SSL_set_tlsext_host_name(c->ssl, peer);
	return SSL_set1_host(c->ssl, peer) == 1 ? 0 : err_set(err, -EINVAL, "TLS: '%s' is no name of a host", peer);
}

int tls_greet(struct tls_conn **out, const struct tls *t, int fd, const char *peer, struct err *err)
{
	AUTO(tls_conn_free) struct tls_conn *c = calloc(1, sizeof(*c));

	if (c)
		c->ssl = SSL_new(t->ctx);
	if (!c || !c->ssl || SSL_set_fd(c->ssl, fd) != 1)
		return err_set(err, -ENOMEM, "out of memory");
	c->fd = fd;
	tls_no_wait(fd);
	int r = peer ? tls_expect(c, peer, err) : 0;
	if (!r)
		r = tls_handshake(c, peer != NULL, err);
	if (r < 0)
		return r;
	*out = take_ptr(&c);
	return 0;
}

void tls_conn_free(struct tls_conn *c)
{
	if (!c)
		return;
	SSL_free(c->ssl);
	free(c);
}

/* --- carrying --- */

/* One direction. */
struct tls_way {
	uint8_t buf[PIECE];
	size_t at, len;
	bool has_ended;         /* where it comes from; what is in BUF is still to go */
	bool is_over;           /* where it goes to has been told */
};

struct tls_pump {
	struct tls_conn *c;
	int plain;
	struct tls_way out, in;         /* plain to TLS, TLS to plain */
	short events, plain_events;     /* to be waited for */
};

/* Each of these: 1 something has moved, 0 nothing can for now, -1 it is broken. */

static int pump_from_plain(struct tls_pump *p)
{
	ssize_t n = recv(p->plain, p->out.buf, PIECE, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		p->plain_events |= POLLIN;
		return 0;
	}
	p->out.at = 0;
	p->out.len = n > 0 ? (size_t)n : 0;
	p->out.has_ended = n <= 0;
	return 1;
}

static int pump_to_tls(struct tls_pump *p)
{
	ERR_clear_error();
	int n = SSL_write(p->c->ssl, p->out.buf + p->out.at, (int)(p->out.len - p->out.at));

	if (n > 0) {
		p->out.at += (size_t)n;
		return 1;
	}
	short wanted = tls_wanted(p->c->ssl, n);
	p->events |= wanted;
	return wanted ? 0 : -1;
}

static int pump_from_tls(struct tls_pump *p)
{
	ERR_clear_error();
	int n = SSL_read(p->c->ssl, p->in.buf, PIECE);

	if (n > 0) {
		p->in.at = 0;
		p->in.len = (size_t)n;
		return 1;
	}
	short wanted = tls_wanted(p->c->ssl, n);
	p->events |= wanted;
	p->in.has_ended = !wanted;      /* also when it has ended without saying so: the records of a migration tell */
	return wanted ? 0 : 1;
}

static int pump_to_plain(struct tls_pump *p)
{
	ssize_t n = send(p->plain, p->in.buf + p->in.at, p->in.len - p->in.at, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n > 0) {
		p->in.at += (size_t)n;
		return 1;
	}
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return -1;
	p->plain_events |= POLLOUT;
	return 0;
}

static int pump_end_out(struct tls_pump *p)
{
	p->out.is_over = true;
	(void)SSL_shutdown(p->c->ssl);
	(void)shutdown(p->c->fd, SHUT_WR);
	return 1;
}

static int pump_end_in(struct tls_pump *p)
{
	p->in.is_over = true;
	(void)shutdown(p->plain, SHUT_WR);
	return 1;
}

static int pump_out(struct tls_pump *p)
{
	if (p->out.is_over)
		return 0;
	if (p->out.at < p->out.len)
		return pump_to_tls(p);
	return p->out.has_ended ? pump_end_out(p) : pump_from_plain(p);
}

static int pump_in(struct tls_pump *p)
{
	if (p->in.is_over)
		return 0;
	if (p->in.at < p->in.len)
		return pump_to_plain(p);
	return p->in.has_ended ? pump_end_in(p) : pump_from_tls(p);
}

void tls_carry(struct tls_conn *c, int plain)
{
	AUTO(free) struct tls_pump *p = calloc(1, sizeof(*p));

	if (!p)
		return;
	p->c = c;
	p->plain = plain;
	tls_no_wait(plain);
	while (!p->out.is_over || !p->in.is_over) {
		p->events = p->plain_events = 0;
		int out = pump_out(p), in = pump_in(p);

		if (out < 0 || in < 0)
			break;
		if (out || in)
			continue;
		/* A connection whose other half has ended is only waited for where something is wanted. */
		struct pollfd fds[2] = { { p->events ? c->fd : -1, p->events, 0 }, { p->plain_events ? plain : -1, p->plain_events, 0 } };
		(void)poll(fds, 2, -1);
	}
	(void)shutdown(plain, SHUT_RDWR);
	(void)shutdown(c->fd, SHUT_RDWR);
}
