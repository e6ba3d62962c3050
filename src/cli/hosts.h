/* SPDX-License-Identifier: Apache-2.0 */
/* hosts.h - daemons elsewhere that this user knows: by which key, and with which token. In ~/.config/viv/hosts.json, for
 * this user alone. One thread. */
#ifndef CLI_HOSTS_H
#define CLI_HOSTS_H

#include <stdbool.h>
#include "util/json.h"

struct err;
struct x509_st;

enum { HOSTS_PIN_LEN = 64, HOSTS_FINGERPRINT_LEN = 64 };

/* What is known of URL: {"pin", "token", "token_name", "user"}, all optional; empty when nothing is. New reference; NULL: the
 * file cannot be read. */
json_t *hosts_get(const char *url, struct err *err);
/* Remember ENTRY (borrowed; NULL: nothing) of URL. */
int hosts_put(const char *url, json_t *entry, struct err *err);

/* A file of this user's, or with a NULL NAME the directory of them. From malloc(); NULL: out of memory. */
char *hosts_path(const char *name);
/* That directory is there, for this user alone. */
int hosts_make_dir(struct err *err);

/* How the key of a certificate is pinned, as libcurl writes it: "sha256//" and Base64. False: it has none. */
bool hosts_pin_of(const struct x509_st *cert, char pin[HOSTS_PIN_LEN]);
/* What people compare: SHA-256 of the certificate. */
bool hosts_fingerprint_of(const struct x509_st *cert, char out[HOSTS_FINGERPRINT_LEN + 1]);

#endif
