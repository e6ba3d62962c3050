/* SPDX-License-Identifier: Apache-2.0 */
/* late.h - libcurl and libwebsockets, loaded when a command first talks to the daemon: with the thirty libraries that
 * they need themselves, that takes longer than most commands about disks do. They stay loaded. Any thread. */
#ifndef CLI_LATE_H
#define CLI_LATE_H

#include <curl/curl.h>
#include <libwebsockets.h>
#include <openssl/ssl.h>

struct err;

/* Functions under their names without the prefix "curl_" or "lws_". */
struct late_curl {
	__typeof__(&curl_easy_init) easy_init;
	__typeof__(&curl_easy_cleanup) easy_cleanup;
	__typeof__(&curl_easy_reset) easy_reset;
	__typeof__(&curl_easy_setopt) easy_setopt;
	__typeof__(&curl_easy_getinfo) easy_getinfo;
	__typeof__(&curl_easy_perform) easy_perform;
	__typeof__(&curl_easy_escape) easy_escape;
	__typeof__(&curl_easy_strerror) easy_strerror;
	__typeof__(&curl_slist_append) slist_append;
	__typeof__(&curl_slist_free_all) slist_free_all;
	__typeof__(&curl_free) free;
};

struct late_lws {
	__typeof__(&lws_set_log_level) set_log_level;
	__typeof__(&lws_create_context) create_context;
	__typeof__(&lws_context_destroy) context_destroy;
	__typeof__(&lws_context_user) context_user;
	__typeof__(&lws_get_context) get_context;
	__typeof__(&lws_client_connect_via_info) client_connect_via_info;
	__typeof__(&lws_service) service;
	__typeof__(&lws_cancel_service) cancel_service;
	__typeof__(&lws_callback_on_writable) callback_on_writable;
	__typeof__(&lws_write) write;
	__typeof__(&lws_is_final_fragment) is_final_fragment;
	__typeof__(&lws_add_http_header_by_token) add_http_header_by_token;
	__typeof__(&lws_get_ssl) get_ssl;
	/* Of the libssl that it is linked with. */
	__typeof__(&SSL_get1_peer_certificate) peer_certificate;
};

/* -ENOENT: the library is not installed, or not the one that this program was built for. */
int late_curl_load(struct late_curl *out, struct err *err);
int late_lws_load(struct late_lws *out, struct err *err);

#endif
