/* SPDX-License-Identifier: Apache-2.0 */
/* client_remote.c - a daemon elsewhere: who it is, and who one is there. */
#include <errno.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/client.h"
#include "cli/client_priv.h"
#include "cli/hosts.h"

DEFINE_AUTO(X509 *, X509_free)
DEFINE_AUTO(BIO *, BIO_free_all)

/* "https://HOST:PORT", without what people may put behind it, and with the port; from malloc(). */
static char *normal_url(const char *url, struct err *err)
{
	const char *host = url + 8;
	size_t len = strcspn(host, "/?#");
	char *out = NULL;

	if (strncmp(url, "https://", 8) != 0 || !len || strcspn(host, "@ ") < len) {
		err_set(err, -EINVAL, "'%s' is no host: it has to be like https://node1.example:8443", url);
		return NULL;
	}
	bool has_port = host[len - 1] != ']' && memrchr(host, ':', len) && (host[0] != '[' || memchr(host, ']', len));
	if (asprintf(&out, "https://%.*s%s", (int)len, host, has_port ? "" : ":8443") < 0)
		err_set(err, -ENOMEM, "out of memory");
	return out;
}

void client_host(const struct client *cl, char *host, size_t cap)
{
	const char *from = cl->url + strlen("https://");
	bool is_bracketed = from[0] == '[';

	from += is_bracketed;
	snprintf(host, cap, "%.*s", (int)strcspn(from, is_bracketed ? "]" : ":/"), from);
}

int client_open_remote(struct client *cl, const char *url, struct err *err)
{
	const char *token = getenv("VIV_TOKEN");

	cl->url = normal_url(url, err);
	if (!cl->url)
		return err && err->code ? err->code : -EINVAL;
	cl->known = hosts_get(cl->url, err);
	if (!cl->known)
		return -EPROTO;
	if (!token)
		token = json_string_value(json_object_get(cl->known, "token"));
	cl->token = token ? strdup(token) : NULL;
	return 0;
}

void client_set_tls(const struct client *cl, void *curl)
{
	const char *pin = json_string_value(json_object_get(cl->known, "pin"));

	cl->lib.easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
	cl->lib.easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (!pin)
		return;
	/* The key itself is known: who has signed it, and for which name, says nothing more. */
	cl->lib.easy_setopt(curl, CURLOPT_PINNEDPUBLICKEY, pin);
	cl->lib.easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
	cl->lib.easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
}

/* The certificate that it shows, whatever it is. Nothing secret is sent. */
static X509 *fetch_certificate(struct client *cl)
{
	struct curl_certinfo *info = NULL;
	X509 *cert = NULL;

	cl->lib.easy_reset(cl->curl);
	cl->lib.easy_setopt(cl->curl, CURLOPT_URL, cl->url);
	cl->lib.easy_setopt(cl->curl, CURLOPT_NOBODY, 1L);
	cl->lib.easy_setopt(cl->curl, CURLOPT_CERTINFO, 1L);
	cl->lib.easy_setopt(cl->curl, CURLOPT_SSL_VERIFYPEER, 0L);
	cl->lib.easy_setopt(cl->curl, CURLOPT_SSL_VERIFYHOST, 0L);
	(void)cl->lib.easy_perform(cl->curl);
	cl->lib.easy_getinfo(cl->curl, CURLINFO_CERTINFO, &info);
	for (const struct curl_slist *s = info && info->num_of_certs ? info->certinfo[0] : NULL; s && !cert; s = s->next) {
		AUTO(BIO_free_all) BIO *b = !strncmp(s->data, "Cert:", 5) ? BIO_new_mem_buf(s->data + 5, -1) : NULL;

		cert = b ? PEM_read_bio_X509(b, NULL, NULL, NULL) : NULL;
	}
	return cert;
}

static bool is_signed_by_known(struct client *cl)
{
	cl->lib.easy_reset(cl->curl);
	cl->lib.easy_setopt(cl->curl, CURLOPT_URL, cl->url);
	cl->lib.easy_setopt(cl->curl, CURLOPT_NOBODY, 1L);
	return cl->lib.easy_perform(cl->curl) == CURLE_OK;
}

static int ask(const char *url, const char *fingerprint, struct err *err)
{
	char answer[16] = "";

	if (!isatty(STDIN_FILENO))
		return err_set(err, -EACCES,
			       "the certificate of '%s' is not known; compare its SHA-256 with what vivd has printed, and give it "
			       "by --fingerprint: %s", url, fingerprint);
	fprintf(stderr, "The certificate of %s is not known. Its SHA-256 is\n\n    %s\n\nand has to be what vivd prints when it "
		"begins. Is it? [yes/no] ", url, fingerprint);
	if (!fgets(answer, sizeof(answer), stdin) || strcmp(answer, "yes\n") != 0)
		return err_set(err, -EACCES, "it is not trusted; nothing was sent");
	return 0;
}

int client_trust(struct client *cl, const char *expected, struct err *err)
{
	char fingerprint[HOSTS_FINGERPRINT_LEN + 1] = "", pin[HOSTS_PIN_LEN];

	if (json_object_get(cl->known, "pin") || (!expected && is_signed_by_known(cl)))
		return 0;
	AUTO(X509_free) X509 *cert = fetch_certificate(cl);
	if (!cert || !hosts_fingerprint_of(cert, fingerprint) || !hosts_pin_of(cert, pin))
		return err_set(err, -ECONNREFUSED, "cannot reach '%s', or it does not speak TLS", cl->url);
	if (expected && strcasecmp(expected, fingerprint) != 0)
		return err_set(err, -EACCES, "'%s' shows another certificate: %s", cl->url, fingerprint);
	int r = expected ? 0 : ask(cl->url, fingerprint, err);

	if (!r)
		json_object_set_new(cl->known, "pin", json_string(pin));
	return r;
}

int client_remember(struct client *cl, const char *token, const char *token_name, const char *user, struct err *err)
{
	json_object_set_new(cl->known, "token", json_string(token));
	json_object_set_new(cl->known, "token_name", json_string(token_name));
	json_object_set_new(cl->known, "user", json_string(user));
	return hosts_put(cl->url, cl->known, err);
}

const char *client_token_name(const struct client *cl)
{
	return json_string_value(json_object_get(cl->known, "token_name"));
}

int client_forget(struct client *cl, bool is_all, struct err *err)
{
	json_object_del(cl->known, "token");
	json_object_del(cl->known, "token_name");
	json_object_del(cl->known, "user");
	return hosts_put(cl->url, is_all ? NULL : cl->known, err);
}
