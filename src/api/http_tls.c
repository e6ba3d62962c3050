/* SPDX-License-Identifier: Apache-2.0 */
/* http_tls.c - another certificate while the server runs. OpenSSL copies what a connection shows when the connection begins,
 * on the service thread; so that is where it is changed. */
#include <errno.h>
#include <openssl/ssl.h>
#include "api/http_priv.h"
#include "util/checked.h"
#include "util/log.h"

struct http_swap {
	struct http_post post;          /* first */
	struct http_server *s;
	X509 *cert;
	EVP_PKEY *key;
	STACK_OF(X509) *chain;
};

static void swap_free(struct http_swap *w)
{
	X509_free(w->cert);
	EVP_PKEY_free(w->key);
	sk_X509_pop_free(w->chain, X509_free);
	free(w);
}

static void swap(struct http_post *p)
{
	struct http_swap *w = container_of(p, struct http_swap, post);
	struct http_server *s = w->s;

	for (unsigned i = 0; i < s->n_tls && s->lws; i++)
		if (SSL_CTX_use_cert_and_key(s->tls[i], w->cert, w->key, w->chain, 1) != 1)
			log_error("a certificate that was checked is not taken; the one before it stays");
	swap_free(w);
	http_alive(s, -1);
}

int http_set_certificate(struct http_server *s, X509 *cert, EVP_PKEY *key, STACK_OF(X509) *chain)
{
	struct http_swap *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	*w = (struct http_swap){ .post.run = swap, .s = s, .chain = X509_chain_up_ref(chain) };
	if (!w->chain) {
		swap_free(w);
		return -ENOMEM;
	}
	X509_up_ref(cert);
	EVP_PKEY_up_ref(key);
	w->cert = cert;
	w->key = key;
	http_alive(s, 1);
	http_post(s, &w->post);
	return 0;
}
