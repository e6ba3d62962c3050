/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/late.h"

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include "util/checked.h"
#include "util/err.h"

struct symbol { const char *name; size_t at; };

#define CURL_FN(name) { "curl_" #name, offsetof(struct late_curl, name) }
static const struct symbol curl_symbols[] = {
	CURL_FN(easy_init), CURL_FN(easy_cleanup), CURL_FN(easy_reset), CURL_FN(easy_setopt), CURL_FN(easy_getinfo),
	CURL_FN(easy_perform), CURL_FN(easy_escape), CURL_FN(easy_strerror), CURL_FN(slist_append),
	CURL_FN(slist_free_all), CURL_FN(free),
};
_Static_assert(sizeof(struct late_curl) == ARRAY_LEN(curl_symbols) * sizeof(void *), "every function has its row");

#define LWS_FN(name) { "lws_" #name, offsetof(struct late_lws, name) }
static const struct symbol lws_symbols[] = {
	LWS_FN(set_log_level), LWS_FN(create_context), LWS_FN(context_destroy), LWS_FN(context_user), LWS_FN(get_context),
	LWS_FN(client_connect_via_info), LWS_FN(service), LWS_FN(cancel_service), LWS_FN(callback_on_writable),
	LWS_FN(write), LWS_FN(is_final_fragment), LWS_FN(add_http_header_by_token), LWS_FN(get_ssl),
	{ "SSL_get1_peer_certificate", offsetof(struct late_lws, peer_certificate) },
};
_Static_assert(sizeof(struct late_lws) == ARRAY_LEN(lws_symbols) * sizeof(void *), "every function has its row");

/* The N functions of LIBRARY into the table OUT. dlsym() looks into what the library is linked with as well. */
static int load(void *out, const char *library, const struct symbol *symbols, size_t n, struct err *err)
{
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);

	if (!handle)
		return err_set(err, -ENOENT, "cannot load the library that talks to the daemon: %s", dlerror());
	for (size_t i = 0; i < n; i++) {
		void *fn = dlsym(handle, symbols[i].name);

		if (!fn)
			return err_set(err, -ENOENT, "'%s' has no function '%s'", library, symbols[i].name);
		memcpy((char *)out + symbols[i].at, &fn, sizeof(fn));
	}
	return 0;
}

int late_curl_load(struct late_curl *out, struct err *err)
{
	return load(out, VIV_CURL, curl_symbols, ARRAY_LEN(curl_symbols), err);
}

int late_lws_load(struct late_lws *out, struct err *err)
{
	return load(out, VIV_LWS, lws_symbols, ARRAY_LEN(lws_symbols), err);
}
