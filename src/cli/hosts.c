/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/hosts.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/err.h"

char *hosts_path(const char *name)
{
	const char *base = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	bool has_base = base && base[0] == '/';
	char *path = NULL;

	if (asprintf(&path, "%s%s/viv%s%s", has_base ? base : home && home[0] == '/' ? home : "/nonexistent",
		     has_base ? "" : "/.config", name ? "/" : "", name ? name : "") < 0)
		return NULL;
	return path;
}

static json_t *load(struct err *err)
{
	AUTO(free) char *path = hosts_path("hosts.json");
	json_error_t why;

	if (!path || access(path, F_OK) < 0)
		return json_object();
	json_t *all = json_load_file(path, 0, &why);

	if (!json_is_object(all)) {
		json_decref(all);
		err_set(err, -EPROTO, "'%s' is not as this program writes it: %s", path, why.text);
		return NULL;
	}
	return all;
}

json_t *hosts_get(const char *url, struct err *err)
{
	AUTO(json_decref) json_t *all = load(err);

	if (!all)
		return NULL;
	json_t *entry = json_object_get(all, url);
	return json_is_object(entry) ? json_incref(entry) : json_object();
}

int hosts_make_dir(struct err *err)
{
	AUTO(free) char *dir = hosts_path(NULL);

	if (!dir)
		return err_set(err, -ENOMEM, "out of memory");
	for (char *p = strchr(dir + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = 0;
		(void)mkdir(dir, 0700);
		*p = '/';
	}
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "cannot make '%s': %s", dir, strerror(errno));
	return 0;
}

int hosts_put(const char *url, json_t *entry, struct err *err)
{
	AUTO(json_decref) json_t *all = load(err);
	AUTO(free) char *path = hosts_path("hosts.json"), *tmp = hosts_path("hosts.json.tmp");

	if (!all)
		return -EPROTO;
	if (!path || !tmp)
		return err_set(err, -ENOMEM, "out of memory");
	int r = hosts_make_dir(err);
	if (r < 0)
		return r;
	if (entry)
		json_object_set(all, url, entry);
	else
		json_object_del(all, url);
	AUTO_FD int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || fchmod(fd, 0600) < 0 || json_dumpfd(all, fd, JSON_INDENT(1) | JSON_SORT_KEYS) < 0 || fsync(fd) < 0 ||
	    rename(tmp, path) < 0)
		return err_set(err, -EIO, "cannot write '%s': %s", path, strerror(errno));
	return 0;
}

bool hosts_pin_of(const struct x509_st *cert, char pin[HOSTS_PIN_LEN])
{
	unsigned char *der = NULL, digest[EVP_MAX_MD_SIZE];
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
	unsigned digest_len = 0;
	bool ok = len > 0 && EVP_Digest(der, (size_t)len, digest, &digest_len, EVP_sha256(), NULL) == 1;

	OPENSSL_free(der);
	if (!ok)
		return false;
	strcpy(pin, "sha256//");
	EVP_EncodeBlock((unsigned char *)pin + strlen(pin), digest, (int)digest_len);
	return true;
}

bool hosts_fingerprint_of(const struct x509_st *cert, char out[HOSTS_FINGERPRINT_LEN + 1])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	if (!X509_digest(cert, EVP_sha256(), digest, &len))
		return false;
	for (unsigned i = 0; i < len && 2 * i < HOSTS_FINGERPRINT_LEN; i++)
		snprintf(out + 2 * i, 3, "%02x", digest[i]);
	return true;
}
